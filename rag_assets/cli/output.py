"""The output of commands: tables and messages on a terminal, JSON for programs, one line per error, the exit code.

Standard output carries results, standard error everything else. With `--quiet` only errors, warnings and results are
printed: what a command was asked for, and what needs attention. Hints, confirmations, progress and durations are not.
"""

from __future__ import annotations

import enum
import functools
import inspect
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rag_assets.cli.exit_codes import exit_code
from rag_assets.cli.layout import cell, column_widths, longest_word, plural
from rag_assets.cli.mishaps import InternalError, internal_error
from resources.errors import RagError
from resources.library_errors import as_rag_error

__all__ = [
    "bars",
    "command",
    "err",
    "facts",
    "is_quiet",
    "is_verbose",
    "note",
    "out",
    "plural",
    "print_error",
    "print_json",
    "progress_lines",
    "remark",
    "set_verbosity",
    "step_errors",
    "table",
]

P = ParamSpec("P")
R = TypeVar("R")

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

#: The version of the JSON documents. It changes when a field is removed, renamed or given another meaning.
SCHEMA = 1

VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show details.", rich_help_panel="Output")
]
#: Seconds between two lines on the progress of the same step.
LINE_SECONDS = 5.0

QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only results and errors.", rich_help_panel="Output")
]


class _Verbosity(enum.IntEnum):
    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_verbosity = _Verbosity.NORMAL


def set_verbosity(*, verbose: bool, quiet: bool) -> None:
    global _verbosity
    if verbose and quiet:
        raise typer.BadParameter("--verbose and --quiet exclude each other")
    if verbose or quiet:
        _verbosity = _Verbosity.VERBOSE if verbose else _Verbosity.QUIET


def is_verbose() -> bool:
    return _verbosity == _Verbosity.VERBOSE


def is_quiet() -> bool:
    return _verbosity == _Verbosity.QUIET


# JSON -------------------------------------------------------------------------------------------------------------


def print_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to standard output: "schema", then the fields of `value`. Times are ISO 8601."""
    document = {"schema": SCHEMA, **value}
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


# Text -------------------------------------------------------------------------------------------------------------


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under columns. Where they do not fit without broken words, print each row as a list of facts."""
    cells = [[cell(value) for value in row] for row in rows]
    headers = [Text(column, "bold") for column in columns]
    # Two spaces between two columns.
    available = out.width - 2 * (len(columns) - 1)
    by_column = [[header, *(row[n] for row in cells)] for n, header in enumerate(headers)]
    widths = column_widths(by_column, available)
    if title:
        out.print(Text(title, "bold"))
    if widths is None:
        for row in cells:
            out.print(Text.assemble((row[0].plain, "bold")), soft_wrap=True)
            _print_facts(list(zip(columns, row))[1:], indent=2)
        return
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for n, (header, width) in enumerate(zip(headers, widths)):
        numeric = bool(rows) and all(
            isinstance(row[n], (int, float)) and not isinstance(row[n], bool) for row in rows
        )
        grid.add_column(header, justify="right" if numeric else "left", width=width)
    for row in cells:
        grid.add_row(*row)
    out.print(grid)


def facts(title: str, pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one pair a line. Empty values are omitted."""
    if title:
        out.print(Text(title, "bold"))
    _print_facts([(name, cell(value)) for name, value in pairs], indent=2 if title else 0)


def _print_facts(pairs: Sequence[tuple[str, Text]], indent: int) -> None:
    pairs = [(name, value) for name, value in pairs if value.plain]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        first = f"{'':{indent}}{name:{width}}  "
        # Words are not broken: users copy paths and ids.
        room = out.width - len(first)
        lines = value.wrap(out, room) if longest_word(value) <= room else value.split("\n")
        for n, line in enumerate(lines):
            out.print(
                Text.assemble((first, "dim") if n == 0 else " " * len(first), line), soft_wrap=True
            )


def note(text: str) -> None:
    """Print a confirmation or a hint, such as the next command; nothing with --quiet. Not wrapped, to be copied."""
    if not is_quiet():
        out.print(text, markup=False, soft_wrap=True)


def remark(text: str) -> None:
    """Print a line on the work in progress to standard error; nothing with --quiet."""
    if not is_quiet():
        err.print(text, markup=False, soft_wrap=True)


@contextmanager
def bars(quiet: bool = False) -> Iterator[None]:
    """Show a progress bar per source and asset while the block runs, if this is a terminal."""
    if quiet or is_quiet() or not err.is_terminal:
        yield
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from rag_assets.pipeline import progress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as bar:
        tasks: dict[str, Any] = {}

        def show(asset: str, source: str, done: int, total: int) -> None:
            name = f"{source}: {asset}"
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        with progress.listening(show):
            yield


@contextmanager
def progress_lines(quiet: bool = False) -> Iterator[None]:
    """Print a line on each step of a long command, at most one in five seconds, if this is no terminal."""
    if quiet or is_quiet() or err.is_terminal:
        yield
        return
    from rag_assets.pipeline import progress

    printed: dict[str, float] = {}

    def show(asset: str, source: str, done: int, total: int) -> None:
        name, now = f"{source}: {asset}", time.monotonic()
        if now - printed.get(name, 0.0) >= LINE_SECONDS or done == total:
            printed[name] = now
            err.print(f"{name} {done:,} of {total:,}", markup=False, soft_wrap=True)

    with progress.listening(show):
        yield


# Errors -----------------------------------------------------------------------------------------------------------


def print_error(message: str, label: str = "error:") -> None:
    # Not wrapped: users copy commands from it, and programs search it.
    err.print(Text.assemble((label, "bold red"), " ", message), soft_wrap=True)


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Add --verbose and --quiet to a command, and print an error as one message with the exit code of its class.

    With --json the error is a JSON object on standard output too. The traceback of a bug goes to a file.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        set_verbosity(
            verbose=bool(kwargs.pop("verbose", False)), quiet=bool(kwargs.pop("quiet", False))
        )
        try:
            return function(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError, EOFError):
            raise
        except Exception as error:
            # Typer formats its own errors: those have this method.
            if hasattr(error, "format_message"):
                raise
            _fail(error, as_json=bool(kwargs.get("as_json")))

    # The help shows the lines of each paragraph but the first as they are broken here.
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    wrapped.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    wrapped.__signature__ = _with_verbosity(function)  # pyright: ignore[reportAttributeAccessIssue]
    return wrapped


def _with_verbosity(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = (("verbose", VerboseOption), ("quiet", QuietOption))
    added = [
        inspect.Parameter(name, keyword, default=False, annotation=kind) for name, kind in options
    ]
    return signature.replace(parameters=[*signature.parameters.values(), *added])


def _fail(error: Exception, *, as_json: bool) -> NoReturn:
    """Print an error and end the command with the exit code of its class."""
    shown = error if isinstance(error, RagError) else as_rag_error(error) or _internal_error(error)
    if is_verbose() and shown is not error:
        err.print("".join(traceback.format_exception(error)), markup=False, soft_wrap=True)
    print_error(str(shown))
    code = exit_code(shown)
    if as_json:
        print_error_json(type(shown).__name__, str(shown), code)
    raise typer.Exit(code) from None


def _internal_error(error: Exception) -> InternalError:
    from rag_assets.settings.load import configured_home

    return internal_error(error, configured_home())


def step_errors(errors: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return (step, message) of failed steps as every JSON document has them, under "errors"."""
    return [{"step": step, "message": message} for step, message in errors]


def print_error_json(kind: str, message: str, code: int) -> None:
    print_json({"error": {"type": kind, "message": message, "exit_code": int(code)}})
