"""The page of settings, from the fields of `Settings`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from rag_assets.settings.load import Settings
from tests.docs.reference.markdown import code, table
from tests.docs.reference.markdown import page as markdown_page

INTRODUCTION = """\
Each setting is an environment variable, or a line of the file `settings.env` in the home folder (`RAG_HOME`). The
environment wins. An empty value is the default. `rag settings` lists the settings with their present values, and where
each value comes from. A setting that cannot work ends every command with exit code 2 and a list of all problems."""

#: Variables that are not settings: they are read where they are used, and never stored or shown.
OTHER_VARIABLES = {
    "RAG_CREDENTIALS_KEY": "Key that encrypts the credentials of sources; several, separated by commas, to rotate it. "
    "Make one with `openssl rand -base64 32`.",
}

TITLES = {
    "StoreSettings": "Stores",
    "EmbedderSettings": "Embedder",
    "IngestionSettings": "Ingestion",
    "SearchSettings": "Search",
    "RerankerSettings": "Reranker",
    "ScheduleSettings": "Schedules",
    "OwnershipSettings": "Ownership",
    "ServingSettings": "Service",
    "LimitSettings": "Limits of requests",
    "PasswordSettings": "Passwords",
    "AuditSettings": "Audit",
    "TokenSettings": "Tokens and sessions",
    "OidcSettings": "Login provider",
}

_TYPES = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}


def fields_by_group() -> dict[type, dict[str, FieldInfo]]:
    """Return group -> its fields, in the order of `Settings`."""
    groups: dict[type, dict[str, FieldInfo]] = {}
    for name, field in Settings.model_fields.items():
        group = next(
            base for base in Settings.__mro__ if name in vars(base).get("__annotations__", {})
        )
        groups.setdefault(group, {})[name] = field
    return groups


def page() -> str:
    groups = fields_by_group()
    return markdown_page(
        "Settings",
        INTRODUCTION,
        *(_section(group, fields) for group, fields in groups.items()),
        "## Other variables",
        table(
            ("variable", "meaning"),
            [(code(name), meaning) for name, meaning in OTHER_VARIABLES.items()],
        ),
    )


def _section(group: type, fields: Mapping[str, FieldInfo]) -> str:
    title = TITLES[group.__name__]
    rows = [
        (
            code(f"RAG_{name.upper()}"),
            _type(field),
            _default(field),
            unit(field),
            field.description or "",
        )
        for name, field in fields.items()
    ]
    columns = ("variable", "type", "default", "unit", "meaning")
    return f"## {title}\n\n{inspect.getdoc(group)}\n\n{table(columns, rows)}"


def unit(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def _type(field: FieldInfo) -> str:
    hint: Any = field.annotation
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (member for member in get_args(hint) if member is not type(None))
    if get_origin(hint) is Literal:
        return " or ".join(code(str(value)) if value else "empty" for value in get_args(hint))
    if get_origin(hint) is dict:
        return "JSON object"
    if get_origin(hint) is tuple:
        return "list, separated by commas"
    limits = {name: value for item in field.metadata for name, value in _limits(item)}
    return _TYPES[hint] + _range(limits)


def _limits(item: object) -> list[tuple[str, Any]]:
    return [
        (name, getattr(item, name))
        for name in ("ge", "gt", "le")
        if getattr(item, name, None) is not None
    ]


def _range(limits: Mapping[str, Any]) -> str:
    """Return the limits in words: `, 1 to 64`."""
    if "ge" in limits and "le" in limits:
        return f", {limits['ge']:g} to {limits['le']:g}"
    words = {"ge": "at least", "gt": "above", "le": "at most"}
    return "".join(f", {words[name]} {value:g}" for name, value in limits.items())


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see meaning"
    value = field.default
    if value is None or value in ("", (), {}):
        return "empty"
    if isinstance(value, dict):
        return code(json.dumps(value))
    if isinstance(value, tuple):
        return code(",".join(map(str, value)))
    return code(f"{value:g}" if isinstance(value, float) else str(value))
