"""`rag explain`: the life of one document, or what it was at a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.table import Table
from rich.text import Text

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
    """Tell the life of a document: entry, raw bytes, text, chunks, embeddings, vectors, versions, runs.

    With --at: its text and properties at that time, from its history (kept for RAG_HISTORY_DAYS).
    """
    from rag_assets.explain import explain as whole
    from rag_assets.explain import explain_at

    deployment = Deployment.from_environment()
    zone = ZoneInfo(deployment.settings.timezone)
    moment = _moment(at, zone) if at is not None else None
    deployment.start()
    if moment is None:
        found, show = whole(deployment, document, source), _Shown(zone).now
    else:
        found, show = explain_at(deployment, document, source, moment), _Shown(zone).then
    if as_json:
        print_json(found)
    else:
        show(found)


def _moment(text: str, zone: ZoneInfo) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--at: expected a time such as 2024-05-01 or '2024-05-01 12:00', found {text!r}."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=zone)


class _Shown:
    """Prints what was found, times in the zone in which --at is read."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def now(self, found: Mapping[str, Any]) -> None:
        out.print(f"{found['key']}  ({found['document_id']})", markup=False, style="bold")
        out.print(f"{found['source'] or 'a removed source'}: {found['state']}\n", markup=False)
        facts: list[tuple[str, str | None]] = []
        if entry := found["entry"]:
            facts += [
                ("entry", f"{entry['locator']}, fetched {self.time(entry['fetched_at'])}"),
                ("change token", entry["change_token"]),
                ("last fetch failed", entry["error"]),
            ]
        if raw := found["raw"]:
            held = "not in the raw store" if raw["bytes"] is None else f"{raw['bytes']:,} bytes"
            facts.append(("raw bytes", f"{raw['file']}, {held}"))
        if document := found["document"]:
            facts += self.reading(found["reading"]) if found["reading"] else []
            facts += self.properties(document)
            facts += self.processing(document)
        _print_facts(facts)
        if chunks := found["chunks"]:
            self.chunks(chunks)
        if found["vectors"]:
            self.vectors(found["vectors"])
        if found["versions"]:
            self.versions(found["versions"])
        self.runs(found["runs"])

    def then(self, found: Mapping[str, Any]) -> None:
        document = found["document"]
        until = f"{found['ended_by']} {self.time(found['valid_to'])}" if found["valid_to"] else ""
        out.print(f"{found['key']}  ({found['document_id']})", markup=False, style="bold")
        out.print(
            f"{found['source'] or 'a removed source'}, at {self.time(found['at'])}: "
            f"version {document['version']}, {until or 'which is the current one'}\n",
            markup=False,
        )
        _print_facts(
            [
                ("raw bytes", document["raw_hash"]),
                *self.properties(document),
                *self.processing(document),
            ]
        )
        self.runs(found["runs"])
        out.print()
        typer.echo(document["content"])

    def reading(self, reading: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        pages = f", {reading['pages']} pages" if reading["pages"] else ""
        parser = reading["parser"]
        return [
            ("decoded as", reading["encoding"]),
            (
                "read as",
                f"{reading['format']} ({reading['mime_type']}){pages}, by: {reading['reader']}; no OCR",
            ),
            (
                "parser",
                parser.replace(";", ", ").replace("=", " ")
                if parser
                else "another version or setting than now: the next sync parses it anew",
            ),
        ]

    def properties(self, document: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        shown = ("encoding", "pages", "page_starts")
        about = {name: it for name, it in document["metadata"].items() if name not in shown}
        return [
            ("title", document["title"]),
            ("author", document["author"]),
            ("language", document["language"]),
            ("category", document["category"]),
            ("tags", ", ".join(document["tags"] or ())),
            ("URL", document["source_url"]),
            ("metadata", ", ".join(f"{name}: {value}" for name, value in about.items())),
            ("text", f"{document['word_count']:,} words, {document['char_count']:,} characters"),
        ]

    def processing(self, document: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        indexed = f" {self.time(document['indexed_at'])}" if document["indexed_at"] else ""
        return [
            ("processing", document["processing_status"]),
            ("error", document["error_message"]),
            ("indexing", f"{document['indexing_status']}{indexed}"),
            (
                "version",
                f"{document['version']}, since {self.time(document['valid_from'])}; "
                f"first seen {self.time(document['created_at'])}",
            ),
        ]

    def chunks(self, chunks: list[Mapping[str, Any]]) -> None:
        paged = any(chunk["page"] for chunk in chunks)
        more = f", the first {CHUNKS}; --json lists all" if len(chunks) > CHUNKS else ""
        table(
            f"Chunks: {len(chunks)}{more}",
            (
                *("#", "chunk"),
                *(("page",) if paged else ()),
                *("language", "type", "section", "characters", "status", "embedding"),
            ),
            [
                (
                    chunk["position"],
                    chunk["id"],
                    *((chunk["page"],) if paged else ()),
                    chunk["language"],
                    chunk["chunk_type"],
                    chunk["section_title"],
                    chunk["char_count"],
                    chunk["embedding_error"] or chunk["embedding_status"],
                    f"{_short(chunk['embedding_file'])} row {chunk['embedding_row']}"
                    if chunk["embedding_file"]
                    else "none",
                )
                for chunk in chunks[:CHUNKS]
            ],
        )
        for file in dict.fromkeys(chunk["embedding_file"] for chunk in chunks[:CHUNKS]):
            if file:
                out.print(f"{_short(file)} is {file}", markup=False, style="dim", soft_wrap=True)

    def vectors(self, vectors: Mapping[str, Mapping[str, Any]]) -> None:
        table(
            "Vectors",
            ("collection", "state", "acknowledged", "rows in Milvus", "as PostgreSQL says"),
            [
                (
                    name,
                    facts["state"],
                    f"{facts['acknowledged']} of {facts['chunks']} chunks, "
                    f"{self.time(facts['acknowledged_at']) or 'never'}",
                    facts.get("error", f"{facts.get('rows')} of {facts['wanted']}"),
                    facts.get("right"),
                )
                for name, facts in vectors.items()
            ],
        )

    def versions(self, versions: Iterable[Mapping[str, Any]]) -> None:
        table(
            "Earlier versions (their texts: --at)",
            ("version", "from", "to", "ended", "title", "characters", "raw bytes"),
            [
                (
                    version["version"],
                    self.time(version["valid_from"]),
                    self.time(version["valid_to"]),
                    version["ended_by"],
                    version["title"],
                    version["char_count"],
                    (version["raw_hash"] or "")[:12],
                )
                for version in versions
            ],
        )

    def runs(self, runs: Iterable[Mapping[str, Any]]) -> None:
        rows = [
            (
                run["run_id"],
                run["job"],
                self.time(run["started_at"]),
                run["status"],
                "\n".join(run["did"]),
            )
            for run in runs
        ]
        if rows:
            table("Dagster runs", ("run", "job", "started", "status", "did"), rows)

    def time(self, moment: datetime | None) -> str:
        return f"{moment.astimezone(self.zone):%Y-%m-%d %H:%M:%S%z}" if moment else ""


def _print_facts(facts: Iterable[tuple[str, str | None]]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in facts:
        if value:
            grid.add_row(name, Text(value))
    out.print(grid)


def _short(file: str) -> str:
    """The beginning of a file's name: enough to tell one from the other in a narrow column."""
    return file.rsplit("/", 1)[-1][:8]
