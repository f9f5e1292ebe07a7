"""`rag explain`: the life of one document, or what it was at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from rag_assets.cli.output import command, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import ConfigError

#: Chunks shown; --json has all.
CHUNKS = 20


@command
def explain(
    document: Annotated[str, typer.Argument(help="Key or id of a document, or SOURCE/KEY.")],
    source: Annotated[str | None, typer.Option("--source", help="Of this source.")] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", help="As it was at this time: 2024-05-01, '2024-05-01 12:00'."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the life of a document: entry, raw bytes, text, chunks, embeddings, vectors, versions, runs."""
    from rag_assets.explain import explain as whole
    from rag_assets.explain import explain_at

    deployment = Deployment.from_environment()
    moment = _moment(at, deployment.settings.timezone) if at else None
    deployment.start()
    if moment is None:
        found, show = whole(deployment, document, source), _show
    else:
        found, show = explain_at(deployment, document, source, moment), _show_at
    if as_json:
        print_json(found)
    else:
        show(found)


def _moment(text: str, timezone: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--at: expected a time such as 2024-05-01 or '2024-05-01 12:00', found {text!r}."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(timezone))


def _show(found: Mapping[str, Any]) -> None:
    out.print(f"{found['key']}  ({found['document_id']})", markup=False)
    out.print(f"source {found['source'] or 'removed'}: {found['state']}\n", markup=False)
    if entry := found["entry"]:
        _facts("Source entry", entry)
    if raw := found["raw"]:
        held = f"{raw['bytes']} bytes" if raw["bytes"] is not None else "not in the raw store"
        out.print(f"raw: {raw['file']}, {held}\n", markup=False)
    if document := found["document"]:
        _facts("Document", document)
    if chunks := found["chunks"]:
        table(
            f"{len(chunks)} chunks" + (f", the first {CHUNKS}" if len(chunks) > CHUNKS else ""),
            ("position", "chunk", "type", "section", "chars", "status", "embedding"),
            [
                (
                    chunk["position"],
                    chunk["id"],
                    chunk["chunk_type"],
                    chunk["section_title"],
                    chunk["char_count"],
                    chunk["embedding_error"] or chunk["embedding_status"],
                    f"{chunk['embedding_file']}:{chunk['embedding_row']}"
                    if chunk["embedding_file"]
                    else None,
                )
                for chunk in chunks[:CHUNKS]
            ],
        )
    if vectors := found["vectors"]:
        table(
            "Vectors",
            (
                "collection",
                "state",
                "chunks",
                "acknowledged",
                "last",
                "rows in Milvus",
                "as PostgreSQL says",
            ),
            [
                (
                    name,
                    facts["state"],
                    facts["chunks"],
                    facts["acknowledged"],
                    _time(facts["acknowledged_at"]),
                    facts.get("rows", facts.get("error")),
                    facts.get("right"),
                )
                for name, facts in vectors.items()
            ],
        )
    if versions := found["versions"]:
        table(
            "Versions that ended",
            ("version", "from", "to", "ended by", "title", "chars", "raw hash"),
            [
                (
                    version["version"],
                    _time(version["valid_from"]),
                    _time(version["valid_to"]),
                    version["ended_by"],
                    version["title"],
                    version["char_count"],
                    (version["raw_hash"] or "")[:12],
                )
                for version in versions
            ],
        )
    _show_runs(found)


def _show_at(found: Mapping[str, Any]) -> None:
    document = dict(found["document"])
    content = document.pop("content")
    until = f"{found['ended_by']} at {_time(found['valid_to'])}" if found["valid_to"] else "current"
    out.print(f"{found['key']}  ({found['document_id']}) at {_time(found['at'])}", markup=False)
    out.print(f"version {document['version']}, {until}\n", markup=False)
    _facts("Document", document)
    _show_runs(found)
    out.print(content, markup=False, soft_wrap=True)


def _facts(title: str, facts: Mapping[str, Any]) -> None:
    shown = [
        (name, _time(value) if isinstance(value, datetime) else value)
        for name, value in facts.items()
        if value not in (None, "", [], {}) and not name.endswith("_run")
    ]
    table(title, ("", ""), shown)


def _show_runs(found: Mapping[str, Any]) -> None:
    if runs := found["runs"]:
        table(
            "Dagster runs",
            ("run", "job", "started", "status", "did"),
            [
                (
                    run["url"] or run["run_id"],
                    run["job"],
                    _time(run["started_at"]),
                    run["status"],
                    ", ".join(run["did"]),
                )
                for run in runs
            ],
        )


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S%z}" if moment else ""
