"""The embedder and the kinds of vectors that it makes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from rag_assets.pipeline.vectors import KINDS, Kind
from rag_assets.settings.web_address import is_web_address

#: Built-in embedders that make dense vectors only.
DENSE_ONLY = ("use", "e5", "sentence-transformers", "openai")
#: Embedder -> the prefix of its settings, which are its arguments.
_PREFIXES = {
    "e5": "e5_",
    "bge-m3": "bge_m3_",
    "sentence-transformers": "st_",
    "openai": "openai_",
}


class EmbedderSettings(BaseModel):
    """The embedder. `RAG_E5_*`, `RAG_BGE_M3_*` and `RAG_OPENAI_*` apply to the embedder of that name alone, `RAG_ST_*`
    to `sentence-transformers`.
    """

    embedder: str = Field(
        default="lexical",
        description="lexical, use, e5, bge-m3, sentence-transformers, openai or your own: module:Class.",
    )
    vectors: Annotated[tuple[Kind, ...], NoDecode] = Field(
        default=("dense", "sparse"),
        description="Kinds of vectors to keep (dense, sparse, multi), separated by commas.",
        validate_default=True,
    )
    e5_max_length: int = Field(
        default=1024,
        ge=16,
        le=8192,
        json_schema_extra={"unit": "tokens"},
        description="Maximum tokens per text. The model reads 512 at a time, and averages the parts of a longer text.",
    )
    e5_processes: int | None = Field(
        default=None,
        ge=1,
        le=256,
        json_schema_extra={"unit": "processes"},
        description="Processes that embed documents, with one thread each; empty: one per core, at most 16.",
    )
    bge_m3_model: str = Field(default="BAAI/bge-m3", description="Model name or local folder.")
    bge_m3_revision: str = Field(
        default="", description="Model revision; empty: the default branch."
    )
    bge_m3_max_length: int = Field(
        default=8192,
        ge=16,
        le=8192,
        json_schema_extra={"unit": "tokens"},
        description="Maximum tokens per text.",
    )
    bge_m3_batch_tokens: int | None = Field(
        default=None,
        ge=16,
        json_schema_extra={"unit": "tokens"},
        description="Padded tokens in a batch (bounds the memory); empty: depends on the device.",
    )
    bge_m3_device: str = Field(
        default="",
        description="cpu, cuda:1, or several: cuda:0,cuda:1; empty: all GPUs, or the CPU if there is none.",
    )
    bge_m3_precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        default="auto", description="Numbers that the model computes with; auto: by device."
    )
    st_model: str = Field(
        default="",
        description="Model name or local folder, such as sentence-transformers/all-MiniLM-L6-v2.",
        validate_default=True,
    )
    st_revision: str = Field(default="", description="Commit of a model name; a folder has none.")
    st_query_prompt: str = Field(
        default="", description="Text put before each query; empty: the model's own."
    )
    st_document_prompt: str = Field(
        default="", description="Text put before each document; empty: the model's own."
    )
    st_dimensions: int | None = Field(
        default=None,
        ge=1,
        json_schema_extra={"unit": "dimensions"},
        description="First dimensions to keep, for models trained for it (Matryoshka); empty: all.",
    )
    st_max_length: int | None = Field(
        default=None,
        ge=3,
        json_schema_extra={"unit": "tokens"},
        description="Maximum tokens per text; empty: the model's own.",
    )
    st_batch_tokens: int | None = Field(
        default=None,
        ge=16,
        json_schema_extra={"unit": "tokens"},
        description="Padded tokens in a batch (bounds the memory); empty: depends on the device.",
    )
    st_device: str = Field(
        default="",
        description="cpu, cuda:1, or several: cuda:0,cuda:1; empty: all GPUs, or the CPU if there is none.",
    )
    st_precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        default="auto", description="Numbers that the model computes with; auto: by device."
    )
    st_sparse_model: str = Field(
        default="",
        description="Name or folder of a SparseEncoder such as SPLADE, for sparse vectors; empty: from words.",
    )
    st_sparse_revision: str = Field(
        default="", description="Commit of its name; a folder has none."
    )
    openai_base_url: str = Field(
        default="",
        description="Server's URL up to the part before /embeddings, such as https://api.openai.com/v1.",
        validate_default=True,
    )
    openai_api_key: str = Field(
        default="", description="API key of that server; empty: it needs none."
    )
    openai_model: str = Field(
        default="", description="The model's name at that server.", validate_default=True
    )
    openai_revision: str = Field(
        default="",
        description="Version of that model, such as a date: another value embeds everything again. Not sent.",
    )
    openai_dimensions: int | None = Field(
        default=None,
        ge=1,
        le=32768,
        json_schema_extra={"unit": "dimensions"},
        description="Dimensions of its vectors; empty: ask the server.",
    )
    openai_document_prefix: str = Field(
        default="", description="Text put before each document, such as 'passage: ' for E5."
    )
    openai_query_prefix: str = Field(
        default="", description="Text put before each query, such as 'query: ' for E5."
    )
    openai_batch_texts: int = Field(
        default=32,
        ge=1,
        le=2048,
        json_schema_extra={"unit": "texts"},
        description="Maximum texts per request. The default is that of Text Embeddings Inference.",
    )
    openai_batch_chars: int = Field(
        default=100_000,
        ge=1,
        json_schema_extra={"unit": "characters"},
        description="Maximum characters per request; a single longer text is sent alone.",
    )
    openai_requests: int = Field(
        default=4,
        ge=1,
        le=256,
        json_schema_extra={"unit": "requests"},
        description="Maximum concurrent requests.",
    )
    openai_timeout: float = Field(
        default=60.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds that a request for documents may take.",
    )
    openai_query_timeout: float = Field(
        default=10.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds that a request for a search may take.",
    )

    @field_validator("vectors", mode="before")
    @classmethod
    def _split_kinds(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        kinds = [part.strip() for part in value.split(",") if part.strip()]
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(
                f"expected some of {', '.join(KINDS)} separated by commas, found {value!r}"
            )
        return tuple(kind for kind in KINDS if kind in kinds)

    @field_validator("vectors", mode="after")
    @classmethod
    def _check_kinds_of_embedder(cls, value: tuple[Kind, ...], info: ValidationInfo) -> object:
        embedder = info.data.get("embedder")
        if embedder in DENSE_ONLY and value not in (("dense",), ("dense", "sparse")):
            raise ValueError(
                f"RAG_EMBEDDER={embedder} makes dense vectors only, and takes sparse ones from words: "
                "set RAG_VECTORS=dense,sparse or RAG_VECTORS=dense"
            )
        return value

    @field_validator("st_model", mode="after")
    @classmethod
    def _require_for_sentence_transformers(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("embedder") == "sentence-transformers" and not value:
            raise ValueError(
                "expected a folder or the model's name, such as sentence-transformers/all-MiniLM-L6-v2"
            )
        return value

    @field_validator("openai_base_url", "openai_model", mode="after")
    @classmethod
    def _require_for_openai(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("embedder") != "openai":
            return value
        if info.field_name == "openai_model":
            if not value:
                raise ValueError("expected the model's name, such as BAAI/bge-m3")
        elif not is_web_address(value):
            # There is no default: texts go only to a company that the user named.
            raise ValueError(
                "expected the server's address without a user in it, such as http://127.0.0.1:8080/v1 "
                "or https://api.openai.com/v1"
            )
        return value

    @property
    def embedder_options(self) -> dict[str, Any]:
        """Keyword arguments of the configured embedder, without its key: Dagster stores and shows them."""
        prefix = _PREFIXES.get(self.embedder)
        if prefix is None:
            return {}
        options = {
            name.removeprefix(prefix): getattr(self, name)
            for name in type(self).model_fields
            if name.startswith(prefix) and name != "openai_api_key"
        }
        # Dagster's configuration accepts no nulls; the embedder has its own default for an omitted option.
        return {name: value for name, value in options.items() if value not in (None, "")}
