"""Every `connection_config`: the settings common to all types, and one message for all problems of one."""

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
        default=None, description="ISO 639-1 code of all documents, such as ja; detected if not set"
    )
    max_bytes: int = Field(
        default=64 * MIB, gt=0, description="maximum bytes of a document; a larger one fails"
    )
    shards: int = Field(
        default=1, ge=1, le=MAX_SHARDS, description="parts that are synced in parallel"
    )


C = TypeVar("C", bound=SourceConfig)


def validated(kind: str, model: type[C], config: Mapping[str, Any]) -> C:
    """Return the settings. Raises ConfigError with every problem, its expected and found value, and no secrets."""
    try:
        return model.model_validate(dict(config))
    except ValidationError as error:
        problems = [_problem(kind, model, dict(problem)) for problem in error.errors()]
    raise ConfigError(
        f"These are not valid settings of a source of type {kind}:\n  "
        + "\n  ".join(problems)
        + f"\nThe settings of this type are listed by: rag sources types {kind}"
    )


def _problem(kind: str, model: type[SourceConfig], problem: Mapping[str, Any]) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    if problem["type"] == "extra_forbidden":
        names = ", ".join(model.model_fields)
        return f"{name}: not a setting of {kind}; expected one of {names}"
    if problem["type"] == "missing":
        return f"{name}: missing; expected {model.model_fields[name].description}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    return f"{name}: {message[:1].lower()}{message[1:]}, found {_shown(name, problem['input'])}"


def _shown(name: str, value: object) -> str:
    if SECRET_NAME.search(name):
        return "***"
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, value))}}}"
    return repr(without_secrets(value) if isinstance(value, str) else value)[:200]


def _without_credentials(url: str) -> str:
    if without_secrets(url) != url:
        raise ValueError("expected no user, password or token in the URL (set it as a credential)")
    return url


#: A URL without secrets: `connection_config` is shown and stored unchanged.
PlainUrl = Annotated[str, Field(min_length=1), AfterValidator(_without_credentials)]
