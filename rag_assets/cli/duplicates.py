"""`rag duplicates`: the documents that are marked as near-duplicates of others."""

from __future__ import annotations

from typing import Annotated

import typer

from rag_assets.cli.output import command, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment

#: Documents shown; --json has all.
SHOWN = 100


@command
def duplicates(
    source: Annotated[
        str | None, typer.Option("--source", help="Documents of this source only.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List documents that are near-duplicates of one that came before. Search returns them all the same."""
    from resources.postgres.documents.near_duplicates import near_duplicates
    from resources.postgres.registry.sources import get_source

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        if source is not None:
            get_source(connection, source)  # an unknown one is an error, not an empty list
        found = near_duplicates(connection, source, None if as_json else SHOWN + 1)
    if as_json:
        print_json([each._asdict() for each in found])
    elif found:
        table(
            "Near-duplicates" + (f", the first {SHOWN}" if len(found) > SHOWN else ""),
            ("source", "document", "near-duplicate of", "similarity"),
            [
                (
                    each.source,
                    each.key,
                    f"{each.other_source}/{each.other_key}",
                    f"{each.similarity:.2f}",
                )
                for each in found[:SHOWN]
            ],
        )
    else:
        out.print("No near-duplicates.")
