"""Where PostgreSQL, Milvus and the files are, and how they are reached."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator

PROJECT_ROOT = Path(__file__).resolve().parents[2]


class StoreSettings(BaseModel):
    """The stores. An empty URL means the embedded server under `home`."""

    home: Path = Field(
        default=PROJECT_ROOT / ".rag", description="Folder of the embedded servers and their files."
    )
    postgres_url: str = Field(
        default="", description="URL (libpq) of your PostgreSQL; empty: the embedded server."
    )
    milvus_uri: str = Field(
        default="", description="Your Milvus, http://host:port; empty: Milvus Lite."
    )
    milvus_token: str = Field(
        default="", description="Token of your Milvus: user:password or an API key."
    )
    milvus_timeout: float = Field(
        default=30.0, gt=0, description="Seconds that a request to Milvus may take."
    )
    milvus_shards: int = Field(default=2, ge=1, le=16, description="Shards of a new collection.")
    storage_url: str = Field(
        default="",
        description="Folder or object storage URL (s3://…, gs://…) for Parquet and raw files; empty: in RAG_HOME.",
    )
    parquet_precision: Literal["float32", "float16"] = Field(
        default="float32",
        description="Numbers in Parquet. float16 halves the files; its error is about 5e-4 of a vector's norm.",
    )
    lock_timeout: float = Field(
        default=60.0, ge=0, description="Seconds to wait for another writer of the same partition."
    )

    @field_validator("home", mode="after")
    @classmethod
    def _make_absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def effective_storage_url(self) -> str:
        return self.storage_url or str(self.home / "storage")
