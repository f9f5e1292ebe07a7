"""How expensive a guess of a password is."""

from __future__ import annotations

from pydantic import BaseModel, Field


class PasswordSettings(BaseModel):
    """Parameters of argon2id. Not below OWASP's: 46 MiB and one pass."""

    password_memory_mib: int = Field(
        default=46,
        ge=46,
        le=1024,
        json_schema_extra={"unit": "MiB"},
        description="Memory of one hash of a password. If it rises, each user's hash is made again at the login.",
    )
    password_passes: int = Field(
        default=1,
        ge=1,
        le=16,
        json_schema_extra={"unit": "passes"},
        description="Passes of one hash over that memory. One pass over 46 MiB takes 40 to 90 ms of a processor.",
    )
