"""`rag duplicates`: the documents that are marked as near-duplicates of others."""

from __future__ import annotations

from typing import Annotated

import typer

from rag_assets.cli.output import command, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.access import AccessScope

#: Maximum number of documents shown; --json lists all.
SHOWN = 100


@command
def duplicates(
    source: Annotated[
        str | None, typer.Option("--source", help="Documents of this source only.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List documents that are near-duplicates of an earlier one. Search still returns them."""
    from resources.postgres.documents.near_duplicates import near_duplicates
    from resources.postgres.registry.visible_sources import require_sources

    deployment, scope = Deployment.from_environment(), AccessScope.owner()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        if source is not None:
            # An unknown source is an error, not an empty list.
            require_sources(connection, [source], scope)
        marked = near_duplicates(connection, scope, source, None if as_json else SHOWN + 1)
    if as_json:
        print_json({"duplicates": [document._asdict() for document in marked]})
    elif marked:
        table(
            "Near-duplicates" + (f", the first {SHOWN}" if len(marked) > SHOWN else ""),
            ("document", "near-duplicate of", "similarity"),
            [
                (
                    f"{document.source}/{document.key}",
                    f"{document.other_source}/{document.other_key}",
                    f"{document.similarity:.2f}",
                )
                for document in marked[:SHOWN]
            ],
        )
    else:
        out.print("No near-duplicates.")
