"""How a command asks before it deletes: a question on a terminal, `--yes` everywhere else."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from resources.errors import ConfigError

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str, command: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Return if the person agrees, or if `yes` is set; end the command if not.

    `command`: the arguments of this call. Raises ConfigError where nobody can answer: with --json, or without a
    terminal.
    """
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        reason = "--json asks no questions" if as_json else "There is no terminal to answer on"
        raise ConfigError(
            f"{question} {reason}; to confirm: rag {shlex.join(command)} --yes{' --json' if as_json else ''}"
        )
    typer.confirm(question, abort=True, err=True)
