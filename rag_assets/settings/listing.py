"""Every setting with its value, its default, where the value comes from, and its meaning; without secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Any, NamedTuple

from dotenv import dotenv_values

from rag_assets.settings.load import Settings, settings_file, shown_value


class SettingEntry(NamedTuple):
    """A setting. `default`: None where it depends on other settings. `origin`: environment, settings.env or default."""

    name: str
    value: Any
    default: Any
    origin: str
    meaning: str


def list_settings(settings: Settings) -> list[SettingEntry]:
    """Return all settings in the order of their modules."""
    file = settings_file(settings.home)
    in_file = {name for name, value in dotenv_values(file).items() if value}
    environment = {name for name, value in os.environ.items() if value}
    return [
        SettingEntry(
            name=variable,
            value=json.loads(shown_value(name, getattr(settings, name))),
            default=json.loads(shown_value(name, field.get_default(call_default_factory=True))),
            origin=_origin(variable, environment, in_file),
            meaning=field.description or "",
        )
        for name, field in Settings.model_fields.items()
        for variable in [f"RAG_{name.upper()}"]
    ]


def _origin(variable: str, environment: Collection[str], in_file: Collection[str]) -> str:
    if variable in environment:
        return "environment"
    return "settings.env" if variable in in_file else "default"
