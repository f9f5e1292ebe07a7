"""Every `connection_config`: what the types have in common, and one message for all that is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rag_assets.pipeline.shards import MAX_SHARDS
from resources.errors import ConfigError
from resources.urls import SECRET_NAME, without_secrets

MIB = 1024 * 1024


class SourceConfig(BaseModel):
    """Settings of every source type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    language: Annotated[str, Field(pattern="^[a-z]{2}$")] | None = Field(
        default=None, description="ISO 639-1 code of all documents, such as ja; else detected"
    )
    max_bytes: int = Field(default=64 * MIB, gt=0, description="a larger document is not read")
    shards: int = Field(
        default=1, ge=1, le=MAX_SHARDS, description="parts that are synced side by side"
    )


C = TypeVar("C", bound=SourceConfig)


def validated(kind: str, model: type[C], config: Mapping[str, Any]) -> C:
    """Raises ConfigError that lists every problem: what was expected and what was found, never a secret."""
    try:
        return model.model_validate(dict(config))
    except ValidationError as error:
        problems = [_problem(kind, model, dict(problem)) for problem in error.errors()]
    raise ConfigError(
        f"This cannot be a source of type {kind}:\n  "
        + "\n  ".join(problems)
        + f"\nIts settings are explained by: rag sources types {kind}"
    )


def _problem(kind: str, model: type[SourceConfig], problem: Mapping[str, Any]) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    if problem["type"] == "extra_forbidden":
        names = ", ".join(model.model_fields)
        return f"{name}: not a setting of {kind}; expected one of {names}"
    if problem["type"] == "missing":
        return f"{name}: missing; expected {model.model_fields[name].description}"
    said = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return said
    return f"{name}: {said[:1].lower()}{said[1:]}, found {_shown(name, problem['input'])}"


def _shown(name: str, value: object) -> str:
    if SECRET_NAME.search(name):
        return "***"
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, value))}}}"
    return repr(without_secrets(value) if isinstance(value, str) else value)[:200]


def _without_credentials(url: str) -> str:
    if without_secrets(url) != url:
        raise ValueError("expected no user, password or token in it (give it as a credential)")
    return url


#: A URL whose secrets are elsewhere: `connection_config` is shown and stored as it is.
PlainUrl = Annotated[str, Field(min_length=1), AfterValidator(_without_credentials)]
