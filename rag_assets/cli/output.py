"""The output of commands: tables and messages on a terminal, JSON for programs, one line per error."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resources.errors import RagError

P = ParamSpec("P")
R = TypeVar("R")

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    grid = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        numeric = bool(rows) and all(
            isinstance(row[len(grid.columns)], (int, float)) for row in rows
        )
        grid.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(
            *(
                value
                if isinstance(value, Text)
                else _escaped(str(value if value is not None else ""))
                for value in row
            )
        )
    out.print(grid)


@contextmanager
def bars(quiet: bool = False) -> Iterator[None]:
    """Show a progress bar per source and asset while the block runs, if this is a terminal."""
    if quiet or not err.is_terminal:
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


def print_error(message: str, label: str = "error:") -> None:
    # Not wrapped: users copy commands from it, and programs search it.
    err.print(f"[bold red]{_escaped(label)}[/] {_escaped(message)}", soft_wrap=True)


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Make a command print a RagError as one message with exit code 1, not as a traceback."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RagError as error:
            print_error(str(error))
            raise typer.Exit(1) from None

    return wrapped


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
