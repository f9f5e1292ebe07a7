"""The page of commands, from the command line itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from rag_assets.cli import exit_codes
from rag_assets.cli.exit_codes import EXIT_CODES, ExitCode
from rag_assets.cli.main import app
from tests.docs.pages import anchor
from tests.docs.reference.markdown import code, table
from tests.docs.reference.markdown import page as markdown_page

#: Options that every command has: listed once, with `rag`.
COMMON = {"--help", "--verbose", "--quiet"}
#: Command -> exit code -> its meaning there. Every command may also end with 0, 2 and 4, and with 1 for another error.
OUTCOMES: Mapping[str, Mapping[int, str]] = {
    "rag check": {1: "a check failed", 3: "no check failed, but one could not decide"},
    "rag ingest": {1: "a sync failed; with --dry-run, a source cannot be listed"},
    "rag ui": {1: "Dagster ended unexpectedly"},
    "rag demo": {1: "the demo found a wrong answer or a failed check"},
    "rag repair": {1: "a repair failed, or drift remains"},
    "rag rebuild milvus": {1: "a collection could not be rebuilt"},
    "rag rebuild parquet": {1: "a source could not be embedded again"},
    "rag compact": {1: "the compaction failed"},
    "rag forget": {1: "the erasure is not finished"},
    "rag eval compare": {1: "the source of the set could not be synced"},
    "rag eval run": {1: "an evaluation or one of its checks failed"},
    "rag audit verify": {1: "a record was edited, removed, inserted or chained again"},
    "rag index recommend": {2: "no index meets all requirements"},
}
_NOTE = re.compile(r"\s*\[((?:default|required|env var)[^\]]*)\]$")


def commands() -> dict[str, tuple[Any, Any]]:
    """Return command line -> (the command, its context), groups before their commands."""
    root = typer.main.get_command(app)
    context = root.make_context("rag", [], resilient_parsing=True)
    return {"rag": (root, context), **dict(_below(root, context, "rag"))}


def _below(group: Any, context: Any, path: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name, command in getattr(group, "commands", {}).items():
        if command.hidden:
            continue
        child = command.make_context(name, [], parent=context, resilient_parsing=True)
        yield f"{path} {name}", (command, child)
        yield from _below(command, child, f"{path} {name}")


def exit_code_meanings() -> dict[ExitCode, str]:
    """Return code -> its meaning: the comment above it, or its name."""
    source = inspect.getsource(exit_codes)
    comments = {
        name: " ".join(text.replace("#:", "").split())
        for text, name in re.findall(r"((?:    #: .*\n)+)    (\w+) = \d+", source)
    }
    return {
        item: comments.get(item.name, "The command did what it was asked to do.")
        for item in ExitCode
    }


def page() -> str:
    found = commands()
    return markdown_page(
        "Commands",
        "`rag COMMAND --help` shows the same. With `--json`, a command prints one JSON document with `schema`, the "
        'version of its\nform; an error is `{"error": {"type": …, "message": …, "exit_code": …}}`.',
        "## Exit codes",
        table(
            ("code", "name", "meaning"),
            [(str(int(item)), item.name, text) for item, text in exit_code_meanings().items()],
        ),
        "Each error ends with the code of its class:",
        table(
            ("error", "code", "meaning"),
            [
                (code(kind.__name__), str(int(value)), (inspect.getdoc(kind) or "").splitlines()[0])
                for kind, value in EXIT_CODES.items()
            ],
        ),
        *(_section(path, *item) for path, item in found.items()),
    )


def _section(path: str, command: Any, context: Any) -> str:
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"## {path}", command.help or _callback_text(command), f"```\n{usage}\n```"]
    rows = [_row(record) for record in records(path, command, context)]
    if rows:
        parts.append(table(("argument or option", "default", "meaning"), rows))
    if path in OUTCOMES:
        codes = ", ".join(f"{number} {meaning}" for number, meaning in OUTCOMES[path].items())
        parts.append(f"Exit codes: 0 done, {codes}; and [those of every command](#exit-codes).")
    if below := getattr(command, "commands", None):
        shown = [f"{path} {name}" for name, child in below.items() if not child.hidden]
        parts.append("Commands: " + ", ".join(f"[`{name}`](#{anchor(name)})" for name in shown))
    return "\n\n".join(part.strip() for part in parts if part)


def _callback_text(command: Any) -> str:
    return inspect.getdoc(command.callback) or "" if command.callback else ""


def records(path: str, command: Any, context: Any) -> Iterator[tuple[str, str]]:
    """Yield (argument or option, help) of a command, without those of every command."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and (path == "rag" or not set(parameter.opts) & COMMON):
            yield record


def _row(record: tuple[str, str]) -> tuple[str, str, str]:
    name, meaning = record
    notes: Mapping[str, str] = {}
    if match := _NOTE.search(meaning):
        meaning = meaning[: match.start()]
        notes = {part.partition(": ")[0]: part.partition(": ")[2] for part in match[1].split("; ")}
    name = re.sub(r"<list\[(\w+)\]>", r"<\1> (repeatable)", name)
    default = "required" if "required" in notes else code(notes.get("default", ""))
    name, _, repeatable = name.partition(" (")
    return code(name) + (f" ({repeatable}" if repeatable else ""), default, meaning
