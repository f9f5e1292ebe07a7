"""Real stores for tests: one embedded PostgreSQL and one Milvus Lite a session, emptied between tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import hypothesis
import psycopg
import pytest

import tests.support.short_waits  # noqa: F401

# isort: split
from rag_assets.definitions import build_definitions, build_resources
from rag_assets.partitions import PARTITION_TAG, SOURCES, partition_keys
from rag_assets.search.searcher import Searcher
from rag_assets.settings.load import Settings
from resources.embedded.stack import start_milvus, start_postgres, stop
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Postgres
from resources.postgres.registry.sources import SourceRow, add_source
from resources.postgres.schema import migrate
from resources.sources.registry import check_config
from tests.support.folders import servers_folder
from tests.support.servers import S3, Web, s3_server, web_server

# No deadline: how long an example takes says how busy the machine is. The same examples each time; others are tried
# with --hypothesis-profile=exploring.
hypothesis.settings.register_profile("exploring", deadline=None)
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")

os.environ["HF_HUB_OFFLINE"] = "1"

#: Third-party corpora, beside the project where they are. Tests that use them skip where they are not.
SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_finish() -> None:
    # What is imported stays: the collector need not look through its half a million objects again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    with servers_folder("rag-tests-") as folder:
        yield folder
        stop(folder)


@pytest.fixture(scope="session")
def postgres_url(home: Path) -> str:
    url = start_postgres(home).url
    migrate(url)
    return url


@pytest.fixture(scope="session")
def milvus_uri(home: Path) -> str:
    return start_milvus(home).uri


@dataclass
class World:
    """A deployment for one test: its stores, and Dagster's jobs on an instance of its own."""

    settings: Settings
    folder: Path
    instance: dg.DagsterInstance
    connection: Connection
    closing: ExitStack = field(default_factory=ExitStack)
    resources: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resources = build_resources(self.settings)

    @property
    def store(self) -> MilvusStore:
        return self.resources["milvus"].open()

    @property
    def postgres(self) -> Postgres:
        return self.resources["postgres"].open()

    def configured(self, **changes: Any) -> World:
        """The same stores under other settings."""
        return World(
            self.settings.model_copy(update=changes),
            self.folder,
            self.instance,
            self.connection,
            self.closing,
        )

    def write(self, files: Mapping[str, str | bytes], source: str = "docs") -> Path:
        """Files below the source's folder."""
        root = self.folder / source
        root.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    def add(self, source: str = "docs", **config: Any) -> SourceRow:
        path = self.folder / source
        path.mkdir(parents=True, exist_ok=True)
        return self.register(source, "folder", {"path": str(path), **config})

    def register(self, source: str, source_type: str, config: dict[str, Any]) -> SourceRow:
        check_config(source_type, config)
        keys = partition_keys(source, config.get("shards", 1))
        self.instance.add_dynamic_partitions(SOURCES.name or "", keys)
        return add_source(self.connection, source, source_type, config, None)

    def run(
        self,
        job: str,
        partition: str | None = "docs",
        ops: dict[str, Any] | None = None,
        *,
        raise_on_error: bool = True,
        tags: dict[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        definition = build_definitions(self.resources).resolve_job_def(job)
        return definition.execute_in_process(
            instance=self.instance,
            tags={**({PARTITION_TAG: partition} if partition else {}), **(tags or {})},
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                "ops": {name: {"config": config} for name, config in (ops or {}).items()},
            },
            raise_on_error=raise_on_error,
        )

    def sync(
        self, source: str = "docs", tags: dict[str, str] | None = None
    ) -> dict[str, dict[str, int]]:
        """Runs the sync of a source or a shard; asset -> plan."""
        result = self.run("sync_source", source, tags=tags)
        return {
            event.step_materialization_data.materialization.asset_key.to_user_string(): dict(
                event.step_materialization_data.materialization.metadata["plan"].value  # pyright: ignore
            )
            for event in result.all_events
            if event.is_step_materialization
        }

    def check(self, source: str = "docs") -> dict[str, dg.AssetCheckEvaluation]:
        """Runs every check of a source; check -> evaluation."""
        # A failed blocking check fails its step; its evaluation is there all the same.
        result = self.run("check_source", source, raise_on_error=False)
        evaluations = result.get_asset_check_evaluations()
        return {evaluation.check_name: evaluation for evaluation in evaluations}

    def failed_checks(self, source: str = "docs") -> dict[str, str]:
        return {
            name: found.description or ""
            for name, found in self.check(source).items()
            if not found.passed
        }

    def searcher(self) -> Searcher:
        embedder = self.resources["embedder"]
        return self.closing.enter_context(
            Searcher(
                self.postgres,
                self.store,
                embedder.open(),
                embedder.fingerprint(),
                self.settings.vectors,
                self.settings.dense_search,
            )
        )

    def one(self, query: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        row = self.connection.execute(query, parameters).fetchone()  # pyright: ignore[reportArgumentType, reportCallIssue]
        return row[0] if row else None


@contextmanager
def empty_world(home: Path, postgres_url: str, milvus_uri: str, folder: Path) -> Iterator[World]:
    """The session's stores, emptied."""
    settings = Settings(
        home=home,
        postgres_url=postgres_url,
        milvus_uri=milvus_uri,
        storage_url=str(folder / "storage"),
        vectors=("dense", "sparse"),
        lock_timeout=5,
    )
    with (
        psycopg.connect(postgres_url, autocommit=True) as connection,
        dg.DagsterInstance.ephemeral() as instance,
        ExitStack() as closing,
    ):
        # Milvus Lite answers nobody while it awaits an index that it builds for what is to be dropped.
        _empty(connection, MilvusStore(milvus_uri, timeout=120))
        yield World(settings, folder / "sources", instance, connection, closing)


@pytest.fixture
def world(home: Path, postgres_url: str, milvus_uri: str, tmp_path: Path) -> Iterator[World]:
    with empty_world(home, postgres_url, milvus_uri, tmp_path) as world:
        yield world


def _empty(connection: Connection, store: MilvusStore) -> None:
    connection.execute("DELETE FROM sources")
    connection.execute("DELETE FROM forgotten")
    connection.execute("DELETE FROM vector_deletions")
    connection.execute("DELETE FROM vector_collections")
    connection.execute("DELETE FROM embedding_files")
    connection.execute("DELETE FROM partition_writers")
    connection.execute("DELETE FROM document_versions")
    connection.execute("DELETE FROM gone_signatures")
    for name in store.client.list_collections():
        for alias in store.client.list_aliases(name).get("aliases", []):
            store.client.drop_alias(alias)
        store.client.drop_collection(name)
    store.close()


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as web:
        yield web


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[S3]:
    with s3_server() as s3:
        yield s3


@pytest.fixture
def s3(s3_endpoint: S3) -> S3:
    """An S3-compatible server with one empty bucket, `bucket`."""
    s3_endpoint.files.rm("bucket/*", recursive=True) if s3_endpoint.files.ls("bucket") else None
    return s3_endpoint


@pytest.fixture
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the third-party corpora are not at {SHARED}")
    return SHARED
