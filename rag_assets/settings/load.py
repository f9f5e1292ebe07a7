"""Every constant and default that a user may change, typed, read from `RAG_*` environment variables.

Nothing is connected to or started here. `load_settings()` reports every invalid variable at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rag_assets.pipeline import index_kinds
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.errors import ConfigError
from resources.urls import without_secrets

PROJECT_ROOT = Path(__file__).resolve().parents[2]

#: Decoded by our validator: what pydantic-settings decodes itself ends at the first error, without the others.
Json = Annotated[dict[str, Any], NoDecode]

#: The schema reference's.
REFERENCE_INDEX: dict[str, Any] = {
    "index_type": "HNSW",
    "metric_type": "IP",
    "params": {"M": 16, "efConstruction": 256},
}
#: Milvus Lite builds HNSW for minutes at 100,000 rows, after a crash without an answer meanwhile; and its graph loses
#: most among equal vectors (docs/decisions.md). It has 128 lists, whatever it is told.
EMBEDDED_INDEX: dict[str, Any] = {
    "index_type": "IVF_FLAT",
    "metric_type": "IP",
    "params": {"nlist": 128},
}


class Settings(BaseSettings):
    """The configuration of one deployment. Field `postgres_url` is the variable `RAG_POSTGRES_URL`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix="RAG_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    home: Path = Field(
        default=PROJECT_ROOT / ".rag", description="Where the embedded stack and its files live."
    )
    postgres_url: str = Field(
        default="", description="Your PostgreSQL (libpq URL); empty: the embedded one."
    )
    milvus_uri: str = Field(
        default="", description="Your Milvus, http://host:port; empty: Milvus Lite."
    )
    milvus_token: str = Field(
        default="", description="Token of your Milvus, user:password or an API key."
    )
    storage_url: str = Field(
        default="",
        description="Folder or object storage URL (s3://…, gs://…) for Parquet and raw files.",
    )

    embedder: str = Field(default="lexical", description="lexical, bge-m3, openai or module:Class.")
    vectors: Annotated[tuple[Kind, ...], NoDecode] = Field(
        default=("dense", "sparse"),
        description="Kinds of vectors to keep, separated by commas.",
        validate_default=True,
    )
    bge_m3_model: str = Field(default="BAAI/bge-m3", description="Model name or local folder.")
    bge_m3_revision: str = Field(
        default="", description="Model revision; empty: the default branch."
    )
    bge_m3_max_length: int = Field(
        default=8192, ge=16, le=8192, description="Tokens a text, at most."
    )
    bge_m3_batch_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Padded tokens in a batch (bounds the memory); empty: by device.",
    )
    bge_m3_device: str = Field(
        default="",
        description="cpu, cuda:1, or several: cuda:0,cuda:1; empty: all GPUs, else the CPU.",
    )
    bge_m3_precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    openai_base_url: str = Field(
        default="",
        description="Of the server, to what stands before /embeddings: https://api.openai.com/v1.",
        validate_default=True,
    )
    openai_api_key: str = Field(default="", description="Sent to that server, if there is one.")
    openai_model: str = Field(
        default="", description="The model's name at that server.", validate_default=True
    )
    openai_dimensions: int | None = Field(
        default=None, ge=1, le=32768, description="Of its vectors; empty: the server is asked."
    )
    openai_document_prefix: str = Field(default="", description="Such as 'passage: ' for E5.")
    openai_query_prefix: str = Field(default="", description="Such as 'query: ' for E5.")
    openai_batch_texts: int = Field(
        default=32, ge=1, le=2048, description="Texts in a request, at most (32: TEI's default)."
    )
    openai_batch_chars: int = Field(
        default=100_000, ge=1, description="Characters in a request, at most, but for one text."
    )
    openai_requests: int = Field(
        default=4, ge=1, le=256, description="Requests on their way at a time."
    )
    openai_timeout: float = Field(default=60.0, gt=0, description="Seconds a request may take.")
    openai_query_timeout: float = Field(
        default=10.0, gt=0, description="Seconds a request for a search may take."
    )

    parsers: int = Field(
        default=2, ge=1, le=64, description="Documents parsed at a time, each in a process."
    )
    parse_seconds: float = Field(
        default=60.0, gt=0, description="Seconds that parsing one document may take."
    )
    parse_memory_mib: int = Field(
        default=1024, ge=256, description="MiB of memory that parsing one document may take."
    )
    chunk_max_chars: int = Field(
        default=1000, ge=100, le=20000, description="Characters a chunk, at most."
    )
    chunk_min_chars: int = Field(default=200, ge=0, description="Shorter neighbours are joined.")
    parquet_precision: Literal["float32", "float16"] = Field(
        default="float32",
        description="float16 halves the files and costs about 5e-4 of a vector's norm.",
    )

    dense_index: Json = Field(
        default={},
        description="index_type, metric_type, params; empty: HNSW, on Milvus Lite IVF_FLAT.",
        validate_default=True,
    )
    dense_search: Json = Field(
        default={}, description="Of the index; empty: what suits its type.", validate_default=True
    )
    sparse_index: Json = Field(
        default={
            "index_type": "SPARSE_INVERTED_INDEX",
            "metric_type": "IP",
            "params": {"drop_ratio_build": 0.2},
        }
    )
    fusion: Literal["weighted", "rrf"] = Field(
        default="weighted",
        description="Joins a hybrid: scores by the embedder's weights, or reciprocal ranks.",
    )
    milvus_shards: int = Field(default=2, ge=1, le=16)
    milvus_timeout: float = Field(
        default=30.0, gt=0, description="Seconds a request to Milvus may take."
    )
    search_limit: int = Field(default=100, ge=1, le=16384, description="Results a search, at most.")
    search_consistency: Literal["Strong", "Session", "Bounded", "Eventually"] = Field(
        default="Bounded",
        description="Milvus's, of searches: Strong ones see the last second's rows, and wait 0.2 s for it.",
    )

    guard_share: float = Field(
        default=0.2, ge=0, le=1, description="A sync that would delete a larger share asks first."
    )
    guard_documents: int = Field(
        default=20,
        ge=0,
        description="... and more documents than this. An empty listing always asks.",
    )

    sync_schedule: str = Field(
        default="0 2 * * *",
        pattern=r"^\S+( \S+){4}$",
        description="When a source without a schedule of its own is synced (cron).",
    )
    timezone: str = Field(
        default="UTC", description="IANA time zone of all schedules, such as Asia/Tokyo."
    )
    sync_grace_minutes: int = Field(
        default=60,
        ge=0,
        description="A source is late when its sync is not done so long after it was due.",
    )
    history_days: int = Field(
        default=365,
        ge=1,
        description="Days that replaced and deleted versions of documents are kept.",
    )
    quick_check_schedule: str = Field(
        default="*/15 * * * *",
        pattern=r"^\S+( \S+){4}$",
        description="When every active source is looked at quickly (cron).",
    )
    compaction_schedule: str = Field(
        default="0 4 * * 0",
        pattern=r"^\S+( \S+){4}$",
        description="When small embedding files are put together (cron).",
    )
    repair_attempts: int = Field(
        default=3, ge=0, description="Repairs requested for one finding; 0: none is by itself."
    )

    eval_margin: float = Field(
        default=0.03,
        ge=0,
        le=1,
        description="How far nDCG@10 and the share of answered queries may be below what was accepted.",
    )

    outbox_seconds: float = Field(
        default=900.0, ge=0, description="Seconds that a deletion may wait before a check fails."
    )

    lock_timeout: float = Field(
        default=60.0, ge=0, description="Seconds to wait for another writer of the same partition."
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
    def _kinds_that_are_made(cls, value: tuple[Kind, ...], info: ValidationInfo) -> object:
        if info.data.get("embedder") == "openai" and value != ("dense",):
            raise ValueError("RAG_EMBEDDER=openai makes dense vectors only: set RAG_VECTORS=dense")
        return value

    @field_validator("openai_base_url", "openai_model", mode="after")
    @classmethod
    def _given_for_openai(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("embedder") != "openai":
            return value
        if info.field_name == "openai_model":
            if not value:
                raise ValueError("expected the model's name, such as BAAI/bge-m3")
        elif not _is_web_address(value):
            # No default: nobody's texts go to a company that they did not name.
            raise ValueError(
                "expected the server's address without a user in it, such as http://127.0.0.1:8080/v1 "
                "or https://api.openai.com/v1"
            )
        return value

    @field_validator("dense_index", "dense_search", "sparse_index", mode="before")
    @classmethod
    def _decode(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"expected a JSON object: {error}") from error

    @field_validator("dense_index", "sparse_index", mode="after")
    @classmethod
    def _complete(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        own_milvus = bool(info.data.get("milvus_uri"))
        if not value and info.field_name == "dense_index":
            return dict(REFERENCE_INDEX if own_milvus else EMBEDDED_INDEX)
        if missing := {"index_type", "metric_type"} - value.keys():
            raise ValueError(f"expected {' and '.join(sorted(missing))} in it")
        if info.field_name == "dense_index":
            _refuse(index_kinds.index_problems(value, server=None if own_milvus else "lite"))
        return value

    @field_validator("dense_search", mode="after")
    @classmethod
    def _suits_the_index(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if (index := info.data.get("dense_index")) is None:  # it has a problem of its own
            return value
        kind = index_kinds.KINDS[index["index_type"]]
        _refuse(index_kinds.search_problems(index, value))
        return value or kind.search_defaults(index.get("params") or {})

    @field_validator("chunk_min_chars", mode="after")
    @classmethod
    def _not_above_the_maximum(cls, value: int, info: ValidationInfo) -> int:
        most = info.data.get("chunk_max_chars", value)
        if value > most:
            raise ValueError(f"expected at most RAG_CHUNK_MAX_CHARS, {most}")
        return value

    @field_validator("sync_schedule", "quick_check_schedule", "compaction_schedule", mode="after")
    @classmethod
    def _known_times(cls, value: str, info: ValidationInfo) -> str:
        if value == cls.model_fields[info.field_name or ""].default:
            return value
        # 0.6 s, where one is set: Dagster, which will read it, judges it.
        from rag_assets.pipeline.cron import comes_due

        if not comes_due(value):
            raise ValueError("expected a cron expression such as '0 2 * * *'")
        return value

    @field_validator("timezone", mode="after")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("expected an IANA time zone such as Europe/Berlin") from None
        return value

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def effective_storage_url(self) -> str:
        return self.storage_url or str(self.home / "storage")

    @property
    def embedder_options(self) -> dict[str, Any]:
        """Keyword arguments of the configured embedder, without its key: Dagster stores and shows them."""
        if self.embedder not in ("bge-m3", "openai"):
            return {}
        prefix = self.embedder.replace("-", "_") + "_"
        options = {
            name.removeprefix(prefix): getattr(self, name)
            for name in type(self).model_fields
            if name.startswith(prefix) and name != "openai_api_key"
        }
        # Dagster's configuration takes no nulls; what is left out has the embedder's own default.
        return {name: value for name, value in options.items() if value not in (None, "")}


def settings_file(home: Path) -> Path:
    return home / "settings.env"


def write_setting(home: Path, name: str, value: str) -> None:
    """Keeps a variable in the settings file, in the place of an earlier value of it."""
    file = settings_file(home)
    lines = file.read_text().splitlines() if file.exists() else []
    kept = [line for line in lines if not line.startswith(f"{name}=")]
    written = file.with_suffix(".tmp")
    written.write_text("\n".join([*kept, f"{name}='{value}'", ""]))
    written.replace(file)


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and "@" not in parts.netloc
            and value.isprintable()
            and " " not in value
        )
    except ValueError:
        return False


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ValueError("; ".join(problems))


def _shown(value: object) -> str:
    return json.dumps(without_secrets(value) if isinstance(value, str) else value, default=str)


def load_settings() -> Settings:
    """Reads the environment, and under it `settings.env` in the home folder, which `rag index tune` writes.

    Raises ConfigError that lists every problem, what was expected and what was found.
    """
    file = settings_file(Path(os.environ.get("RAG_HOME") or PROJECT_ROOT / ".rag").expanduser())
    try:
        return Settings(_env_file=file)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        lines = [
            f"  RAG_{str(problem['loc'][0]).upper()}={_shown(problem['input'])}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise ConfigError(
            "The configuration has problems:\n"
            + "\n".join(lines)
            + "\nMend or unset these variables"
            + (f" (in {file}, too)." if file.exists() else ".")
        ) from error
