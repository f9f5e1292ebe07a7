"""`rag settings`: every setting with its value, where that comes from, and its meaning. Starts nothing."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from rag_assets.cli.layout import cell
from rag_assets.cli.output import command, note, out, print_json
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import ConfigError


@command
def settings(
    name: Annotated[
        str | None, typer.Argument(help="Only settings whose name contains this text.")
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only settings that are not at their default.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the settings: environment variables, or lines of settings.env in the home folder."""
    from rag_assets.settings.listing import list_settings
    from rag_assets.settings.load import settings_file

    loaded = Deployment.from_environment().settings
    entries = [
        entry
        for entry in list_settings(loaded)
        if (name is None or name.upper() in entry.name)
        and (not changed or entry.origin != "default")
    ]
    if name is not None and not entries and not changed:
        raise ConfigError(f"No setting contains {name!r}. List all with: rag settings")
    file = settings_file(loaded.home)
    if as_json:
        print_json({"file": str(file), "settings": [entry._asdict() for entry in entries]})
        return
    for entry in entries:
        origin = entry.origin
        if origin != "default":
            origin += f"; default: {cell(entry.default).plain or 'empty'}"
        value = cell(entry.value).plain or "(empty)"
        out.print(
            Text.assemble((entry.name, "bold"), f" = {value}  ", (origin, "dim")), soft_wrap=True
        )
        out.print(Padding(Text(entry.meaning), (0, 0, 0, 2), expand=False))
    if not entries:
        out.print("Every setting is at its default.")
    note(f"Set them in the environment, or in {file}.")
