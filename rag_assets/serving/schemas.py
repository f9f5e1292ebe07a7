"""What bodies of requests and answers have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class RequestBody(BaseModel):
    """The body of a request. An unknown field is an error: a misspelt one must not be ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=100_000)


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("expected text without the character NUL")
    return value


#: Text that PostgreSQL can store and look for.
Text = Annotated[str, AfterValidator(_storable)]
#: A name of something.
Name = Annotated[Text, Field(min_length=1, max_length=255)]
