"""`rag explain`: the life of one document, or its text and properties at a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import typer
from rich.cells import cell_len

from rag_assets.cli.output import command, facts, out, print_json
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.access import AccessScope
from resources.errors import ConfigError

#: Chunks shown; --json has all.
CHUNKS = 20

#: How a similar document relates to the explained one.
_MARKED = {
    "this": "; it came before, and marks this document",
    "other": "; this document came before, and marks it",
    None: "",
}


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
    """Tell the life of a document: entry, raw bytes, text, chunks, embeddings, vectors, versions,
    near-duplicates, runs.

    With --at: its text and properties at that time, from its history (kept for RAG_HISTORY_DAYS).
    """
    from rag_assets.operations import lineage

    deployment = Deployment.from_environment()
    zone = ZoneInfo(deployment.settings.timezone)
    moment = _moment(at, zone) if at is not None else None
    deployment.start()
    context, scope, printer = deployment.lineage(), AccessScope.owner(), _Printer(zone)
    if moment is None:
        life, show = lineage.explain(context, document, source, scope), printer.now
    else:
        life, show = lineage.explain_at(context, document, source, moment, scope), printer.then
    if as_json:
        print_json(life)
    else:
        show(life)


def _moment(text: str, zone: ZoneInfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--at: expected a time such as 2024-05-01 or '2024-05-01 12:00', found {text!r}."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


class _Printer:
    """Prints a document's life, times in the zone in which --at is read."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def now(self, life: Mapping[str, Any]) -> None:
        _print_name(life)
        out.print(
            f"{life['source'] or 'a removed source'}: {life['state']}",
            markup=False,
            soft_wrap=True,
        )
        known: list[tuple[str, str | None]] = []
        if entry := life["entry"]:
            # A path is its own key.
            place = "" if unquote(entry["locator"]) == life["key"] else f"{entry['locator']}, "
            known += [
                ("entry", f"{place}fetched {self.time(entry['fetched_at'])}"),
                ("change token", entry["change_token"]),
                ("last fetch failed", entry["error"]),
            ]
        if left := life["left"]:
            known.append(("left as it was", self.time(left["left_at"])))
        if raw := life["raw"]:
            size = "not in the raw store" if raw["bytes"] is None else f"{raw['bytes']:,} bytes"
            known.append(("raw bytes", f"{raw['file']}, {size}"))
        if document := life["document"]:
            known += self.reading(life["reading"]) if life["reading"] else []
            known += self.properties(document)
            known += self.processing(document)
        _print_facts(known)
        self.chunks(life["chunks"])
        self.vectors(life["vectors"])
        self.versions(life["versions"])
        self.near_duplicates(life["near_duplicates"])
        self.runs(life["runs"])

    def then(self, life: Mapping[str, Any]) -> None:
        document = life["document"]
        until = f"{life['ended_by']} {self.time(life['valid_to'])}" if life["valid_to"] else ""
        _print_name(life)
        out.print(
            f"{life['source'] or 'a removed source'}, at {self.time(life['at'])}: "
            f"version {document['version']}, {until or 'which is the current one'}",
            markup=False,
            soft_wrap=True,
        )
        _print_facts(
            [
                ("raw bytes", document["raw_hash"]),
                *self.properties(document),
                *self.processing(document),
            ]
        )
        self.runs(life["runs"])
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
                else "another version or setting than now: the next sync parses it again",
            ),
        ]

    def properties(self, document: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        shown = ("encoding", "pages", "page_starts", "text_lost", "left_out")
        lost, left_out = (document["metadata"].get(name) for name in ("text_lost", "left_out"))
        others = {name: value for name, value in document["metadata"].items() if name not in shown}
        return [
            ("title", document["title"]),
            ("author", document["author"]),
            ("language", document["language"]),
            ("category", document["category"]),
            ("tags", ", ".join(document["tags"] or ())),
            ("URL", document["source_url"]),
            ("metadata", ", ".join(f"{name}: {value}" for name, value in others.items())),
            ("not read", f"{lost:.0%} of its text" if isinstance(lost, float) else None),
            ("left out", "; ".join(map(str, left_out)) if isinstance(left_out, list) else None),
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
        more = f", the first {CHUNKS} (--json lists all)" if len(chunks) > CHUNKS else ""
        lines = []
        for chunk in chunks[:CHUNKS]:
            status = chunk["embedding_error"] or chunk["embedding_status"]
            facts = [
                f"p. {chunk['page']}" if chunk["page"] else None,
                chunk["language"],
                chunk["chunk_type"],
                f"{chunk['char_count']:,} characters",
                status if status != "completed" else None,
                f"embedding {_short(chunk['embedding_file'])} row {chunk['embedding_row']}"
                if chunk["embedding_file"]
                else "no embedding",
            ]
            lines.append(
                (
                    f"{chunk['position']} {chunk['id']}  {chunk['section_title'] or ''}",
                    ", ".join(fact for fact in facts if fact),
                )
            )
        _section(f"Chunks: {len(chunks)}{more}", lines)
        for file in dict.fromkeys(chunk["embedding_file"] for chunk in chunks[:CHUNKS]):
            if file:
                out.print(f"  {_short(file)} is {file}", markup=False, style="dim", soft_wrap=True)

    def vectors(self, vectors: Mapping[str, Mapping[str, Any]]) -> None:
        _section(
            "Vectors",
            [
                (
                    f"{name} ({facts['state'] if facts['declared'] else 'no longer declared'})",
                    f"{facts['acknowledged']} of {facts['chunks']} chunks acknowledged, "
                    f"{self.time(facts['acknowledged_at']) or 'never'}\n"
                    + (
                        facts.get("error")
                        or f"{facts['rows']} of {facts['wanted']} rows in Milvus, "
                        f"{facts['right']} equal to PostgreSQL"
                    ),
                )
                for name, facts in vectors.items()
                if facts["declared"] or facts["acknowledged"]
            ],
        )

    def versions(self, versions: Iterable[Mapping[str, Any]]) -> None:
        _section(
            "Earlier versions (their texts: --at)",
            [
                (
                    f"version {version['version']}: {version['title']}",
                    f"{self.time(version['valid_from'])} to {self.time(version['valid_to'])}, then "
                    f"{version['ended_by']}\n{version['char_count']:,} characters, raw bytes "
                    f"{version['raw_hash'] or 'unknown'}",
                )
                for version in versions
            ],
        )

    def near_duplicates(self, similar: Iterable[Mapping[str, Any]]) -> None:
        _section(
            "Near-duplicates",
            [
                (
                    f"{document['source']}/{document['key']}",
                    f"estimated similarity {document['similarity']:.2f}{_MARKED[document['marked']]}",
                )
                for document in similar
            ],
        )

    def runs(self, runs: Iterable[Mapping[str, Any]]) -> None:
        _section(
            "Dagster runs",
            [
                (
                    f"{run['run_id']} {run['job'] or ''} {run['status']} {self.time(run['started_at'])}",
                    ", ".join(run["did"]),
                )
                for run in runs
            ],
        )

    def time(self, moment: datetime | None) -> str:
        return f"{moment.astimezone(self.zone):%Y-%m-%d %H:%M:%S%z}" if moment else ""


def _print_name(life: Mapping[str, Any]) -> None:
    """Print the key and the id; on a line of its own each, if the key is long: both are copied."""
    key, identity = life["key"], f"({life['document_id']})"
    fits = cell_len(f"{key}  {identity}") <= out.width
    for line in [f"{key}  {identity}"] if fits else [key, identity]:
        out.print(line, markup=False, style="bold", soft_wrap=True)


def _print_facts(pairs: Sequence[tuple[str, str | None]]) -> None:
    if any(value for _, value in pairs):
        out.print()
    facts("", pairs)


def _section(title: str, entries: Sequence[tuple[str, str]]) -> None:
    """Print lines, not a table: ids and hashes stay whole for copying, also on a terminal of 80 columns."""
    if not entries:
        return
    out.print(f"\n{title}", markup=False, style="bold")
    for head, rest in entries:
        out.print(f"  {head}", markup=False, soft_wrap=True)
        out.print(
            f"      {rest}".replace("\n", "\n      "), markup=False, style="dim", soft_wrap=True
        )


def _short(file: str) -> str:
    """Return the beginning of a file's name: enough to distinguish files in a line."""
    return file.rsplit("/", 1)[-1][:8]
