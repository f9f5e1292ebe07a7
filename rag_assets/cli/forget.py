"""`rag forget`: removes one document from every store for good, with a receipt."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rag_assets.cli.confirmation import YesOption, confirm
from rag_assets.cli.exit_codes import ExitCode, run_exit_code
from rag_assets.cli.output import command, note, out, print_error, print_json, step_errors, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures
from rag_assets.pipeline.access import AccessScope
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.documents.erasures import (
    Erasure,
    find_document_id,
    find_erasure,
    find_erasure_of_document,
    find_similar_keys,
    key_hash,
    locate_document,
    request_erasure,
    withdraw_erasure,
)
from resources.postgres.documents.lineage import find_document
from resources.postgres.documents.versions import has_versions
from resources.postgres.identity.audit_chain import append_operation
from resources.postgres.registry.sources import get_source


@command
def forget(
    name: Annotated[
        str | None, typer.Argument(metavar="DOCUMENT", help="SOURCE/KEY, key or id of a document.")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="The document's source.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Its key there, e.g. a path.")] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="Its id, instead of DOCUMENT.")
    ] = None,
    yes: YesOption = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Let the next sync read the document again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a document from PostgreSQL, Parquet, the raw store and every Milvus collection, and keep it away.

    Prints a receipt: what each place contains afterwards. Exit code 1 if a place could not be verified; the same
    command then continues from there.
    """
    given = [name is not None, document is not None, key is not None]
    if sum(given) != 1 or (key is not None and source is None):
        raise ConfigError(
            "Name one document: rag forget SOURCE/KEY, rag forget --source NAME --key KEY, or "
            "rag forget --document ID."
        )
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    deployment.sync_partitions()
    with deployment.postgres().connect(autocommit=True) as connection:
        if name is not None:
            scope = AccessScope.owner()
            document = str(find_document(connection, name, source, scope, "rag forget").document_id)
        source, hashed_key, present, earlier = _resolve(connection, source, key, document)
    if undo:
        _undo(deployment, source, hashed_key, earlier, as_json)
        return
    if present is not None:
        named = ("--document", document) if document else ("--source", source, "--key", str(key))
        # As the person named it.
        place = named if name is None else (name, "--source", source)
        confirm(
            f"Remove {present[1]} of {source} from every store, for good?",
            ("forget", *place),
            yes=yes,
            as_json=as_json,
        )
        with (
            deployment.postgres().writer(source) as writer,
            writer.transaction() as connection,
        ):
            row = get_source(connection, source)
            request_erasure(connection, source, row.id, present[1], present[0])
            # By its id: the audit stays, and the key must not.
            append_operation(connection, "document.erase", f"document:{present[0]}", source=source)
    result = deployment.execute("forget_documents", source)
    errors = failures(result)
    with deployment.postgres().connect(autocommit=True) as connection:
        erasure = find_erasure(connection, source, hashed_key)
    receipt: dict[str, Any] = dict(erasure.receipt) if erasure and erasure.receipt else {}
    if not receipt and result.success:
        receipt = next(
            receipt
            for receipt in result.output_for_node("forget_requested")
            if receipt["key_sha256"] == hashed_key
        )
    _show(receipt, errors, as_json)
    if errors:
        raise typer.Exit(run_exit_code(result))
    if not receipt.get("verified"):
        raise typer.Exit(ExitCode.FAILED)


def _resolve(
    connection: Connection, source: str | None, key: str | None, document: str | None
) -> tuple[str, str, tuple[uuid.UUID, str] | None, Erasure | None]:
    """Return the source, the hash of the key, (document id, key) if a store has it, and an earlier request."""
    if document is not None:
        try:
            document_id = uuid.UUID(document)
        except ValueError:
            raise ConfigError(
                f"--document: expected a document's id, found {document!r}."
            ) from None
        place = locate_document(connection, document_id)
        if place is None:
            earlier = find_erasure_of_document(connection, document_id)
            if earlier is None and has_versions(connection, document_id):
                raise ConfigError(
                    f"The source of {document_id} was removed. Only its versions remain, for RAG_HISTORY_DAYS. "
                    f"Delete them with: DELETE FROM document_versions WHERE document_id = '{document_id}'"
                )
            if earlier is None:
                raise ConfigError(
                    f"No document has the id {document_id}, and none with it was forgotten."
                )
            return earlier.source, earlier.key_hash, None, earlier
        source, key = place
    assert source is not None
    assert key is not None
    row = get_source(connection, source)
    hashed_key = key_hash(key)
    earlier = find_erasure(connection, row.name, hashed_key)
    document_id = find_document_id(connection, row.id, key)
    if document_id is None and earlier is None:
        similar = find_similar_keys(connection, row.id, key)
        hint = f" Did you mean: {', '.join(similar)}?" if similar else ""
        raise ConfigError(f"{row.name} has no document with the key {key!r}.{hint}")
    return row.name, hashed_key, (document_id, key) if document_id else None, earlier


def _undo(
    deployment: Deployment, name: str, hashed_key: str, earlier: Erasure | None, as_json: bool
) -> None:
    if earlier is None:
        raise ConfigError("This document was not forgotten.")
    with deployment.postgres().writer(name) as writer, writer.transaction() as connection:
        withdraw_erasure(connection, name, hashed_key)
        target = f"document:{earlier.document}"
        append_operation(connection, "document.withdraw_erasure", target, source=name)
    if as_json:
        print_json({"source": name, "key_sha256": hashed_key, "withdrawn": True})
    else:
        note(f"The next sync of {name} may read it again.")
        note(f"Run it with: rag ingest {shlex.quote(name)}")


def _show(receipt: dict[str, Any], errors: Sequence[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        print_json({**receipt, "errors": step_errors(errors)})
        return
    for _, message in errors:
        print_error(message)
    if not receipt:
        return
    table(
        f"Document {receipt['document']}",
        ("place", "removed", "left", ""),
        [
            (place, count["removed"], count["left"], count.get("note", ""))
            for place, count in receipt["places"].items()
        ],
    )
    if receipt["verified"]:
        out.print(f"Removed from every place, verified at {receipt['verified_at']}.")
    else:
        out.print("[bold red]Not yet removed from every place.[/] The same command continues.")
    out.print(f"Not covered: {receipt['out_of_reach']}.", style="dim")
