"""Parsing, chunking, and the limits of a sync."""

from __future__ import annotations

from pydantic import BaseModel, Field, ValidationInfo, field_validator


class IngestionSettings(BaseModel):
    """What a sync does with documents, and when it stops or tries again."""

    parsers: int = Field(
        default=2,
        ge=1,
        le=64,
        json_schema_extra={"unit": "processes"},
        description="Documents parsed at the same time, each in its own process.",
    )
    parse_seconds: float = Field(
        default=60.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds that parsing one document may take.",
    )
    parse_memory_mib: int = Field(
        default=1024,
        ge=256,
        json_schema_extra={"unit": "MiB"},
        description="MiB of memory that parsing one document may take.",
    )
    chunk_max_chars: int = Field(
        default=1000,
        ge=100,
        le=20000,
        json_schema_extra={"unit": "characters"},
        description="Maximum characters per chunk.",
    )
    chunk_min_chars: int = Field(
        default=200,
        ge=0,
        json_schema_extra={"unit": "characters"},
        description="Neighbouring chunks shorter than this are joined.",
    )
    guard_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        json_schema_extra={"unit": "share"},
        description="A sync that would delete a larger share of the documents, and more than RAG_GUARD_DOCUMENTS, or "
        "replace them by one and the same content, does not do so until a person confirms it.",
    )
    guard_documents: int = Field(
        default=20,
        ge=0,
        json_schema_extra={"unit": "documents"},
        description="The number for RAG_GUARD_SHARE. A source that lists nothing always waits for a person.",
    )
    outbox_seconds: float = Field(
        default=900.0,
        ge=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds that a deletion may wait before a check fails.",
    )
    retry_delay: float = Field(
        default=2.0,
        ge=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds before a failed step runs again; the delay grows with each attempt.",
    )

    @field_validator("chunk_min_chars", mode="after")
    @classmethod
    def _check_maximum(cls, value: int, info: ValidationInfo) -> int:
        maximum = info.data.get("chunk_max_chars", value)
        if value > maximum:
            raise ValueError(f"expected at most RAG_CHUNK_MAX_CHARS, {maximum}")
        return value
