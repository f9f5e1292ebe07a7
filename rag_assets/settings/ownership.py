"""Who owns the assets."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, Field, field_validator
from pydantic_settings import NoDecode

_OWNER = re.compile(r"team:[\w.-]+|[^@\s]+@[^@\s]+\.[^@\s]+")


class OwnershipSettings(BaseModel):
    """The owners of the assets, as Dagster shows them."""

    owners: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Owners of all assets in Dagster: e-mail addresses or team:NAME, separated by commas.",
    )

    @field_validator("owners", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("owners", mode="after")
    @classmethod
    def _check(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [owner for owner in value if not _OWNER.fullmatch(owner)]:
            raise ValueError(
                "expected e-mail addresses or team:NAME (letters, digits, _ . -) separated by commas, found "
                + ", ".join(wrong)
            )
        return value
