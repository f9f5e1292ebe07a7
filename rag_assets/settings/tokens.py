"""Access tokens, their signing keys, and sessions."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field


class TokenSettings(BaseModel):
    """How long tokens, keys and sessions live, and what the tokens name."""

    jwt_issuer: str = Field(
        default="rag-assets",
        min_length=1,
        max_length=200,
        description="The issuer (iss) that access tokens name. Tokens that name another one are refused.",
    )
    jwt_audience: str = Field(
        default="rag-assets",
        min_length=1,
        max_length=200,
        description="The audience (aud) that access tokens name. Tokens that name another one are refused.",
    )
    access_token_minutes: int = Field(
        default=10,
        ge=1,
        le=60,
        json_schema_extra={"unit": "minutes"},
        description="The time in which an access token is accepted.",
    )
    signing_key_days: int = Field(
        default=30,
        ge=1,
        le=365,
        json_schema_extra={"unit": "days"},
        description="The time in which a key signs access tokens. Then a new one is made.",
    )
    session_days: int = Field(
        default=30,
        ge=1,
        le=365,
        json_schema_extra={"unit": "days"},
        description="The time after a login in which its refresh tokens are accepted.",
    )
    session_idle_days: int = Field(
        default=14,
        ge=1,
        le=365,
        json_schema_extra={"unit": "days"},
        description="A session that is not refreshed for this time ends.",
    )

    @property
    def access_token_lifetime(self) -> timedelta:
        return timedelta(minutes=self.access_token_minutes)
