"""`rag forget`: removes one document from every store, provably and for good."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rag_assets.cli.output import command, err, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment, failures
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.documents.erasures import (
    Erasure,
    allow,
    find_document,
    find_request,
    key_hash,
    keys_like,
    place_of_document,
    request,
    request_of_document,
)
from resources.postgres.documents.versions import has_versions
from resources.postgres.registry.sources import get_source


@command
def forget(
    source: Annotated[str | None, typer.Option("--source", help="The document's source.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Its key there, e.g. a path.")] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="Its id, instead of source and key.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Let the next sync read the document again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a document from PostgreSQL, Parquet, the raw store and every Milvus collection, and keep it away.

    Prints a receipt of what was read in each place afterwards. Exit code 1 where a place could not be verified; the
    same command goes on from there.
    """
    if (document is None) == (source is None or key is None):
        raise ConfigError(
            "Name one document: rag forget --source NAME --key KEY, or rag forget --document ID."
        )
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    deployment.sync_partitions()
    with deployment.postgres().connect(autocommit=True) as connection:
        name, hashed, found, known = _resolve(connection, source, key, document)
    if undo:
        _undo(deployment, name, hashed, known)
        return
    if found is not None:
        if as_json and not yes:
            raise ConfigError(
                "With --json nothing is asked: add --yes to remove the document for good."
            )
        if not yes:
            typer.confirm(
                f"Remove {key or document} of {name} from every store, for good?", abort=True
            )
        with (
            deployment.postgres().writer(name) as writer,
            writer.transaction() as connection,
        ):
            row = get_source(connection, name)
            request(connection, name, row.id, found[1], found[0])
    result = deployment.execute("forget_documents", name)
    errors = failures(result)
    with deployment.postgres().connect(autocommit=True) as connection:
        item = find_request(connection, name, hashed)
    receipt: dict[str, Any] = dict(item.receipt) if item is not None and item.receipt else {}
    if not receipt and result.success:
        receipt = next(
            each
            for each in result.output_for_node("forget_requested")
            if each["key_sha256"] == hashed
        )
    _show(receipt, errors, as_json)
    if errors or not receipt.get("verified"):
        raise typer.Exit(1)


def _resolve(
    connection: Connection, source: str | None, key: str | None, document: str | None
) -> tuple[str, str, tuple[uuid.UUID, str] | None, Erasure | None]:
    """(source, hash of the key, (document, key) if anything is held of it, an earlier request)."""
    if document is not None:
        try:
            wanted = uuid.UUID(document)
        except ValueError:
            raise ConfigError(
                f"--document: expected a document's id, found {document!r}."
            ) from None
        place = place_of_document(connection, wanted)
        if place is None:
            earlier = request_of_document(connection, wanted)
            if earlier is None and has_versions(connection, wanted):
                raise ConfigError(
                    f"The source of {wanted} was removed. PostgreSQL has only its versions, for RAG_HISTORY_DAYS. "
                    f"They go with: DELETE FROM document_versions WHERE document_id = '{wanted}'"
                )
            if earlier is None:
                raise ConfigError(f"There is no document {wanted}, and none was forgotten.")
            return earlier.source, earlier.key_hash, None, earlier
        source, key = place
    assert source is not None
    assert key is not None
    row = get_source(connection, source)
    hashed = key_hash(key)
    earlier = find_request(connection, row.name, hashed)
    held = find_document(connection, row.id, key)
    if held is None and earlier is None:
        close = keys_like(connection, row.id, key)
        hint = f" Did you mean: {', '.join(close)}?" if close else ""
        raise ConfigError(f"{row.name} has no document with the key {key!r}.{hint}")
    return row.name, hashed, (held, key) if held is not None else None, earlier


def _undo(deployment: Deployment, name: str, hashed: str, known: Erasure | None) -> None:
    if known is None:
        raise ConfigError("This document was not forgotten.")
    with deployment.postgres().writer(name) as writer, writer.transaction() as connection:
        allow(connection, name, hashed)
    out.print(f"The next sync of {name} may read it again: rag ingest {name}")


def _show(receipt: dict[str, Any], errors: Sequence[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        print_json({**receipt, "errors": [message for _, message in errors]})
        return
    for _, message in errors:
        err.print("[bold red]error:[/] ", end="")
        err.print(message, markup=False, soft_wrap=True)
    if not receipt:
        return
    table(
        f"Document {receipt['document']}",
        ("place", "removed", "left", ""),
        [
            (place, found["removed"], found["left"], found.get("note", ""))
            for place, found in receipt["places"].items()
        ],
    )
    if receipt["verified"]:
        out.print(f"Gone from every place, verified at {receipt['verified_at']}.")
    else:
        out.print("[bold red]Not gone from every place.[/] The same command goes on from there.")
    out.print(f"Out of reach: {receipt['out_of_reach']}.", style="dim")
