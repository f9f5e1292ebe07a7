"""The tags of a run that name the process executing it and its command, and whether that process is still alive.

Without Dagster.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from resources.urls import without_secrets

#: Dagster's UI does not show tags with this prefix: nobody filters runs by a process.
_HIDDEN = ".dagster/"
HOST_TAG, PID_TAG = f"{_HIDDEN}rag_host", f"{_HIDDEN}rag_pid"
#: The command of `rag` that a run belongs to, such as `repair --dry-run` or `forget --source docs --key …`.
COMMAND_TAG = "rag/command"
#: Characters. Names of sources may be long.
_MAX_COMMAND = 200
#: The commands of `rag` that consist of two words, by the first one.
COMMAND_GROUPS: dict[str, frozenset[str]] = {
    "sources": frozenset(
        (
            *("add", "change", "remove", "list", "show", "types", "apply"),
            *("credentials", "rotate-credentials"),
        )
    ),
    "users": frozenset(
        (
            *("add", "list", "show", "role", "lock", "unlock", "password", "grant", "revoke"),
            *("remove", "init"),
        )
    ),
    "keys": frozenset(("add", "list", "rotate", "revoke")),
    "tokens": frozenset(("list", "rotate", "sessions", "end")),
    "rebuild": frozenset(("milvus", "parquet")),
    "eval": frozenset(("add", "build", "list", "remove", "run", "accept", "compare")),
    "index": frozenset(("recommend", "tune", "compare")),
    "audit": frozenset(("list", "verify", "export", "drop")),
}
#: The other commands.
COMMANDS = frozenset(
    (
        *(
            "up",
            "down",
            "status",
            "settings",
            "models",
            "ui",
            "serve",
            "ingest",
            "search",
            "check",
            "repair",
        ),
        *("explain", "duplicates", "compact", "forget", "demo"),
    )
)
#: Options without a value, of the commands that execute runs.
FLAGS = frozenset(
    (
        *(
            "--accept-deletions",
            "--dry-run",
            "--force",
            "--json",
            "--keep",
            "--quick",
            "--quiet",
            "-q",
        ),
        *("--undo", "--verbose", "-v", "--write", "--yes", "-y"),
    )
)
#: Options whose values are shown: the names of sources.
SHOWN_OPTIONS = frozenset(("--source", "--name"))
#: Options of these commands whose values are not shown.
HIDDEN_OPTIONS = frozenset(
    (
        *("--document", "--exclude", "--include", "--key", "--language", "--plot"),
        *("--queries", "--questions", "--recall", "--set"),
    )
)
#: In the place of arguments that are not shown.
_OMITTED = "…"


def own_run_tags(run_id: str) -> dict[str, str]:
    """Return the tags of a run that this process executes.

    They contain the run's id: a retry inherits the tags of the dead run, and gets its own when it starts.
    """
    return {HOST_TAG: socket.gethostname(), PID_TAG: process_tag(run_id)}


def process_tag(purpose: str) -> str:
    """Return the text by which `is_alive` finds this process again."""
    return f"{os.getpid()}:{psutil.Process().create_time():.0f}:{purpose}"


def own_command_tags() -> dict[str, str]:
    """Return the tag of the command that this process executes; empty outside `rag`.

    The keys of documents and the paths of files are not in it: a forgotten document must not live on in Dagster's runs.
    """
    program, *arguments = sys.argv or [""]
    if Path(program).stem != "rag" or not arguments:
        return {}
    words: list[str] = []
    for word in _shown(arguments):
        if word != _OMITTED or words[-1:] != [_OMITTED]:
            words.append(word)
    command = " ".join(words)
    return {COMMAND_TAG: f"{command[:_MAX_COMMAND]}…" if command[_MAX_COMMAND:] else command}


def _shown(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments that are known and harmless, quoted for a shell, and `…` for any other argument."""
    rest, subcommands, positional = iter(arguments), COMMANDS | COMMAND_GROUPS.keys(), False
    for argument in rest:
        option, has_value, value = argument.partition("=")
        if not positional and argument in FLAGS:
            yield argument
        elif not positional and option in SHOWN_OPTIONS | HIDDEN_OPTIONS:
            # The next argument is the value, even if it looks like an option.
            value = value if has_value else next(rest, "")
            yield option
            yield shlex.quote(without_secrets(value)) if option in SHOWN_OPTIONS else _OMITTED
        elif not positional and argument in subcommands:
            yield argument
            subcommands = COMMAND_GROUPS.get(argument, frozenset())
        else:
            yield _OMITTED
            # No option's name follows "--", and no subcommand follows any other argument.
            positional, subcommands = argument == "--" or positional, frozenset()


def is_alive(tag: str) -> bool:
    """Return whether the process of a PID_TAG runs on this machine."""
    pid, created, _ = tag.split(":")
    try:
        process = psutil.Process(int(pid))
        return (
            abs(process.create_time() - float(created)) < 2
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False
