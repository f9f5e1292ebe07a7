"""The HTTP service: its pools, its limits and its logs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator


class ServingSettings(BaseModel):
    """What each process of `rag serve` opens and accepts."""

    secret_key: str = Field(
        default="",
        description="Secret on which API keys and tokens depend, of at least 22 characters; several, separated by "
        "commas: the first one makes new ones. Empty: the file secret.key in RAG_HOME.",
    )
    postgres_pool_min: int = Field(
        default=5,
        ge=1,
        le=200,
        json_schema_extra={"unit": "connections"},
        description="Connections to PostgreSQL that each process keeps.",
    )
    postgres_pool_max: int = Field(
        default=20,
        ge=1,
        le=1000,
        json_schema_extra={"unit": "connections"},
        description="Connections to PostgreSQL of each process, at most.",
    )
    statement_seconds: float = Field(
        default=60.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds that a statement of the service may take in PostgreSQL.",
    )
    milvus_pool: int = Field(
        default=10,
        ge=1,
        le=200,
        json_schema_extra={"unit": "requests"},
        description="Requests to Milvus of each process at one time.",
    )
    search_threads: int = Field(
        default=8,
        ge=1,
        le=200,
        json_schema_extra={"unit": "searches"},
        description="Searches of each process at one time; others wait.",
    )
    body_limit: int = Field(
        default=1 << 20,
        ge=4096,
        json_schema_extra={"unit": "bytes"},
        description="Bytes of a request's body, at most; 4,096 for logins.",
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds that requests in progress get at the end of the service.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="Logs of the service: json, console (for people), or auto: console on a terminal.",
    )

    @field_validator("postgres_pool_max", mode="after")
    @classmethod
    def _order_pool_sizes(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("postgres_pool_min", 1)
        if value < least:
            raise ValueError(f"expected at least RAG_POSTGRES_POOL_MIN ({least})")
        return value
