"""Where PostgreSQL, Milvus and the files are, and how they are reached: also the home folder and the packaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from rag_assets.settings.authority_file import authority_file

_PACKAGE = Path(__file__).resolve().parents[1]


def data_file(name: str) -> Path:
    """Return a file or folder that the package ships: dagster.yaml, workspace.yaml or demo."""
    return _PACKAGE / "data" / name


def default_home() -> Path:
    """Return the home folder without RAG_HOME: `.rag` of a checkout, else the user's data folder.

    An installed package must not keep its data in site-packages: they would end with the environment.
    """
    checkout = _PACKAGE.parent
    try:
        is_checkout = 'name = "rag-assets"' in (checkout / "pyproject.toml").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        is_checkout = False
    if is_checkout:
        return checkout / ".rag"
    from platformdirs import user_data_path

    return user_data_path("rag-assets", appauthor=False)


class StoreSettings(BaseModel):
    """The stores. An empty address means the embedded server under `RAG_HOME`."""

    home: Path = Field(
        default_factory=default_home,
        description="Folder of the embedded servers and their files; default: .rag in a checkout, "
        "else rag-assets in the user's data folder.",
    )
    postgres_url: str = Field(
        default="",
        description="URL (libpq) of your PostgreSQL, 15 or newer; empty: the embedded server.",
    )
    milvus_uri: str = Field(
        default="",
        description="Address of your Milvus, such as http://127.0.0.1:19530; empty: the embedded Milvus Lite.",
    )
    milvus_token: str = Field(
        default="", description="Token of your Milvus: user:password or an API key; empty: none."
    )
    milvus_ca: str = Field(
        default="",
        description="File of the authority that signed the certificate of an https:// Milvus; empty: those that gRPC "
        "knows.",
    )
    milvus_timeout: float = Field(
        default=30.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds that a request to Milvus may take, and a search's query of PostgreSQL.",
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
        default=60.0,
        ge=0,
        json_schema_extra={"unit": "seconds"},
        description="Seconds to wait for another writer of the same partition.",
    )

    @field_validator("home", mode="after")
    @classmethod
    def _make_absolute(cls, value: Path) -> Path:
        value = value.expanduser().absolute()
        if value.is_file():
            raise ValueError("this is a file, not a folder: name a folder, or unset the variable")
        return value

    @field_validator("milvus_uri", mode="after")
    @classmethod
    def _require_server(cls, value: str) -> str:
        # pymilvus would start a second Milvus Lite on such a file, in the current folder.
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(
                "expected the address of a server, such as http://127.0.0.1:19530. For the embedded Milvus Lite leave "
                "it empty: its files are in RAG_HOME"
            )
        return value

    @field_validator("milvus_ca", mode="after")
    @classmethod
    def _require_milvus_ca(cls, value: str) -> str:
        return authority_file(value)

    @property
    def effective_storage_url(self) -> str:
        return self.storage_url or str(self.home / "storage")
