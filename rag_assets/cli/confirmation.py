"""How a command asks: a question on a terminal; elsewhere an error that names the option to use instead."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from rag_assets.cli.output import remark
from resources.errors import ConfigError

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
RemovalDryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Count what would go, remove nothing.")
]


def confirm(question: str, command: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Return if the person agrees, or if `yes` is set; end the command if not.

    `command`: the arguments of this call. Raises ConfigError where nobody can answer: with --json, or without a
    terminal.
    """
    if yes:
        return
    if as_json or not has_terminal():
        reason = "--json asks no questions" if as_json else "There is no terminal to answer on"
        raise ConfigError(
            f"{question} {reason}; to confirm: rag {shlex.join(command)} --yes{' --json' if as_json else ''}"
        )
    if not typer.confirm(question, err=True):
        remark("Nothing was changed.")
        raise typer.Abort()


def has_terminal() -> bool:
    """Return whether a person can answer. Standard input is None where the parent process closed it."""
    return sys.stdin is not None and sys.stdin.isatty()
