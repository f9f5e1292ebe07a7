"""The audit: what it keeps of searches, and where its head is anchored outside the database."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, field_validator

from rag_assets.settings.web_address import is_web_address


class AuditSettings(BaseModel):
    """The audit of the service and of the command line."""

    audit_texts: bool = Field(
        default=False,
        description="Keep the texts of searches in the audit. Without it only their digests are kept.",
    )
    audit_anchor_file: Path | None = Field(
        default=None,
        description="File outside the database to which the head of the audit is appended; default: "
        "audit-anchors.jsonl in RAG_HOME.",
    )
    audit_anchor_url: str = Field(
        default="",
        description="Address to which the head of the audit is sent, as JSON by POST; empty: none.",
    )
    audit_anchor_seconds: float = Field(
        default=10.0,
        ge=0.1,
        json_schema_extra={"unit": "seconds"},
        description="Seconds between two anchors of the audit, at the least.",
    )

    @field_validator("audit_anchor_file", mode="after")
    @classmethod
    def _make_anchor_file_absolute(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        value = value.expanduser().absolute()
        if value.is_dir():
            raise ValueError("this is a folder: name a file, or unset the variable")
        return value

    @field_validator("audit_anchor_url", mode="after")
    @classmethod
    def _require_anchor_address(cls, value: str) -> str:
        if value and not is_web_address(value):
            raise ValueError(
                "expected http:// or https:// with a host and without a user, such as https://audit.example/anchors"
            )
        return value
