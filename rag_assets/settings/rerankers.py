"""The reranker of `rag search --rerank`: a model that reads query and text together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from rag_assets.settings.web_address import is_web_address


class RerankerSettings(BaseModel):
    """The reranker. Without one, `--rerank` orders by MaxSim where multi-vectors are kept."""

    reranker: Literal["", "cross-encoder", "endpoint"] = Field(
        default="",
        description="What --rerank asks: cross-encoder (a model in this process) or endpoint (a server); empty: MaxSim "
        "of multi-vectors.",
    )
    reranker_model: str = Field(
        default="",
        description="Model name or local folder of cross-encoder; the name that endpoint sends, empty: none.",
        validate_default=True,
    )
    reranker_revision: str = Field(
        default="",
        description="Revision of that model on the hub; empty: the default branch. Not for a folder or endpoint.",
    )
    reranker_url: str = Field(
        default="",
        description="Server's URL up to the part before /rerank, such as http://127.0.0.1:8080/v1.",
        validate_default=True,
    )
    reranker_api_key: str = Field(
        default="", description="API key of that server; empty: it needs none."
    )
    reranker_timeout: float = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        json_schema_extra={"unit": "seconds"},
        description="Seconds that reranking may take; after them a search keeps its first order, and says so.",
    )
    reranker_candidates: int = Field(
        default=30,
        ge=1,
        le=200,
        json_schema_extra={"unit": "texts"},
        description="Maximum texts of a search that the reranker orders; the others follow in their first order.",
    )
    reranker_device: str = Field(
        default="",
        description="Device of cross-encoder, such as cpu or cuda:1; empty: a GPU, or the CPU.",
    )
    reranker_max_length: int | None = Field(
        default=None,
        ge=16,
        le=32768,
        json_schema_extra={"unit": "tokens"},
        description="Maximum tokens of query and text together for cross-encoder; empty: the model's maximum.",
    )

    @field_validator("reranker_model", "reranker_url", mode="after")
    @classmethod
    def _require_for_kind(cls, value: str, info: ValidationInfo) -> str:
        kind = info.data.get("reranker")
        if info.field_name == "reranker_model" and kind == "cross-encoder" and not value:
            raise ValueError(
                "expected the name or folder of a cross-encoder, such as cross-encoder/ms-marco-MiniLM-L6-v2"
            )
        if info.field_name == "reranker_url" and kind == "endpoint" and not is_web_address(value):
            # There is no default: texts go only to a company that the user named.
            raise ValueError(
                "expected the server's address without a user in it, such as http://127.0.0.1:8080/v1 "
                "or https://api.cohere.com/v2"
            )
        return value

    @field_validator("reranker_revision", mode="after")
    @classmethod
    def _only_on_the_hub(cls, value: str, info: ValidationInfo) -> str:
        model = info.data.get("reranker_model") or ""
        is_folder = bool(model) and Path(model).expanduser().is_dir()
        if value and info.data.get("reranker") == "cross-encoder" and is_folder:
            raise ValueError(f"expected none for a folder, and RAG_RERANKER_MODEL={model} is one")
        return value

    @property
    def reranker_options(self) -> dict[str, Any]:
        """Keyword arguments of the configured reranker, without its key."""
        names = {
            "cross-encoder": ("model", "revision", "device", "max_length", "timeout"),
            "endpoint": ("url", "model", "timeout"),
        }
        return {name: getattr(self, f"reranker_{name}") for name in names.get(self.reranker, ())}
