"""Parsing, chunking, and the limits of a sync."""

from __future__ import annotations

from pydantic import BaseModel, Field, ValidationInfo, field_validator


class IngestionSettings(BaseModel):
    """What a sync does with documents, and when it stops or tries again."""

    parsers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Documents parsed at the same time, each in its own process.",
    )
    parse_seconds: float = Field(
        default=60.0, gt=0, description="Seconds that parsing one document may take."
    )
    parse_memory_mib: int = Field(
        default=1024, ge=256, description="MiB of memory that parsing one document may take."
    )
    chunk_max_chars: int = Field(
        default=1000, ge=100, le=20000, description="Maximum characters per chunk."
    )
    chunk_min_chars: int = Field(
        default=200, ge=0, description="Neighbouring chunks shorter than this are joined."
    )
    guard_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="A sync that would delete a larger share of the documents asks first ...",
    )
    guard_documents: int = Field(
        default=20,
        ge=0,
        description="... if that is also more documents than this. An empty listing always asks.",
    )
    outbox_seconds: float = Field(
        default=900.0, ge=0, description="Seconds that a deletion may wait before a check fails."
    )
    retry_delay: float = Field(
        default=2.0,
        ge=0,
        description="Seconds before a failed step runs again; the delay grows with each attempt.",
    )

    @field_validator("chunk_min_chars", mode="after")
    @classmethod
    def _check_maximum(cls, value: int, info: ValidationInfo) -> int:
        maximum = info.data.get("chunk_max_chars", value)
        if value > maximum:
            raise ValueError(f"expected at most RAG_CHUNK_MAX_CHARS, {maximum}")
        return value
