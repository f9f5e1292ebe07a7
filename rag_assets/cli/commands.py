"""The commands of `rag` by name. The module of a command is imported when the command is looked at.

Imported together, the modules of all commands cost each command a third of its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Literal

import typer.main
from typer.core import TyperGroup

from rag_assets.pipeline.permissions import Permission

#: Command -> its module in this folder, and the function or the application of subcommands there.
COMMANDS: Mapping[str, str] = {
    "up": "stack:up",
    "down": "stack:down",
    "status": "status:status",
    "settings": "settings:settings",
    "models": "models:models",
    "ui": "ui:ui",
    "serve": "serve:serve",
    "ingest": "ingest:ingest",
    "search": "search:search",
    "check": "check:check",
    "repair": "repair:repair",
    "explain": "explain:explain",
    "duplicates": "duplicates:duplicates",
    "compact": "compact:compact",
    "forget": "forget:forget",
    "demo": "demo:demo",
    "sources": "sources_group:app",
    "users": "users:app",
    "keys": "keys:app",
    "tokens": "tokens:app",
    "rebuild": "rebuild:app",
    "eval": "evaluation:app",
    "index": "index:app",
    "audit": "audit:app",
}

#: Command -> the permission that the same work needs over HTTP. Whoever runs commands is the deployment's owner and has
#: all of them. `machine`: about this machine's processes and settings, and in no user's reach.
PERMISSIONS: Mapping[str, Permission | Literal["machine"]] = {
    **dict.fromkeys(("up", "down", "settings", "models", "ui", "serve", "demo"), "machine"),
    "search": "search:read",
    **dict.fromkeys(("status", "explain", "duplicates"), "document:read"),
    **dict.fromkeys(("ingest", "sources"), "document:write"),
    "forget": "document:delete",
    **dict.fromkeys(("check", "repair", "compact", "eval"), "job:run"),
    "rebuild": "collection:admin",
    "index": "index:admin",
    **dict.fromkeys(("users", "keys", "tokens"), "user:admin"),
    "audit": "audit:read",
}


class CommandGroup(TyperGroup):
    """The group `rag`, whose commands are those of COMMANDS."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # pyright: ignore[reportAttributeAccessIssue]


class _Commands(Mapping[str, Any]):
    """Command's name -> command, imported at its first use."""

    def __getitem__(self, name: str) -> Any:
        return _load(name, COMMANDS[name])

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@cache
def _load(name: str, path: str) -> Any:
    module, _, attribute = path.partition(":")
    found = getattr(import_module(f"{__package__}.{module}"), attribute)
    if isinstance(found, typer.Typer):
        command = typer.main.get_group(found)
        command.name = name
        return command
    app = typer.Typer(add_completion=False)
    app.command(name)(found)
    return typer.main.get_command(app)
