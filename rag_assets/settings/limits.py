"""How many requests a minute are allowed, and the server of the Redis protocol that all workers count in."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import BaseModel, Field, field_validator
from pydantic_settings import NoDecode

from rag_assets.settings.authority_file import authority_file


class LimitSettings(BaseModel):
    """Limits of the service. An empty `redis_url` means the embedded server, or the memory of each process."""

    redis_url: str = Field(
        default="",
        description="Your server of the Redis protocol: redis://, rediss:// (TLS) or unix://; empty: the embedded "
        "Valkey, if the extra valkey is installed, else the memory of each process.",
    )
    redis_ca: str = Field(
        default="",
        description="File of the authority that signed the certificate of a rediss:// server; empty: the system's.",
    )
    redis_pool: int = Field(
        default=20,
        ge=1,
        le=1000,
        json_schema_extra={"unit": "connections"},
        description="Connections of a process to the Redis server.",
    )
    user_requests_per_minute: int = Field(
        default=1200,
        ge=1,
        le=1_000_000,
        json_schema_extra={"unit": "requests a minute"},
        description="Requests a minute of a user, by tokens and all API keys together.",
    )
    stranger_requests_per_minute: int = Field(
        default=60,
        ge=1,
        le=1_000_000,
        json_schema_extra={"unit": "requests a minute"},
        description="Requests a minute of an address without a valid key or token; of an IPv6 network of 64 bits.",
    )
    lease_share: float = Field(
        default=0.01,
        ge=0,
        le=0.5,
        json_schema_extra={"unit": "share of a limit"},
        description="Share of a limit that a worker takes from the Redis server at a time; 0: ask it for each request.",
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="Networks of the proxies whose X-Forwarded-For counts with --behind-proxy, separated by commas.",
    )

    @field_validator("redis_url", mode="after")
    @classmethod
    def _require_redis_scheme(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError(
                "expected redis://host:6379, rediss://user:password@host:6379 or unix:///path/to/socket"
            )
        return value

    @field_validator("redis_ca", mode="after")
    @classmethod
    def _require_redis_ca(cls, value: str) -> str:
        return authority_file(value)

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        try:
            return tuple(ip_network(part) for part in parts)
        except ValueError as error:
            raise ValueError(
                f"expected networks such as 10.0.0.0/8,fd00::/8, found a part that is none: {error}"
            ) from None
