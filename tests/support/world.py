"""A deployment for one test: the session's stores, emptied, and Dagster's jobs on a separate instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import dagster as dg
import psycopg

from rag_assets.definitions import build_definitions, build_resources
from rag_assets.partitions import PARTITION_TAG, SOURCES
from rag_assets.pipeline.hits import Hit
from rag_assets.search.request import AccessScope, Filters, SearchRequest
from rag_assets.search.searcher import Searcher
from rag_assets.settings.load import Settings
from resources.dagster_resources import vector_stores
from resources.milvus.store import MilvusStore
from resources.partition_keys import partition_keys
from resources.postgres.connection import Connection, Postgres
from resources.postgres.registry.sources import SourceRow, add_source
from resources.sources.registry import check_config
from resources.vector_stores import VectorStores
from tests.support.checks import run_checks
from tests.support.stages import run_stages


@cache
def job_named(name: str) -> dg.JobDefinition:
    """Return a job of the product. Definitions are built once a process, as each world passes its own resources."""
    return _definitions().resolve_job_def(name)


@cache
def _definitions() -> dg.Definitions:
    return build_definitions(build_resources(Settings()), Settings())


class Dagster:
    """An instance of Dagster's in memory, made at its first use: 0.1 s that most tests need not pay."""

    def __init__(
        self, closing: ExitStack | None = None, instance: dg.DagsterInstance | None = None
    ):
        self._closing = closing or ExitStack()
        self._partitions: list[str] = []
        if instance is not None:
            self.instance = instance

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        instance = self._closing.enter_context(dg.DagsterInstance.ephemeral())
        instance.add_dynamic_partitions(SOURCES.name or "", self._partitions)
        return instance

    def add_partitions(self, keys: list[str]) -> None:
        if "instance" in vars(self):
            self.instance.add_dynamic_partitions(SOURCES.name or "", keys)
        self._partitions += [key for key in keys if key not in self._partitions]


@dataclass
class World:
    """A deployment for one test: its stores, and Dagster's jobs on a separate instance."""

    settings: Settings
    folder: Path
    dagster: Dagster
    connection: Connection
    closing: ExitStack = field(default_factory=ExitStack)
    resources: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resources = build_resources(self.settings)

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.dagster.instance

    @property
    def store(self) -> MilvusStore:
        return self.resources["milvus"].open()

    @property
    def postgres(self) -> Postgres:
        return self.resources["postgres"].open()

    @property
    def stores(self) -> VectorStores:
        """The plain objects that use-cases take."""
        milvus, embedder = self.resources["milvus"], self.resources["embedder"]
        return vector_stores(milvus.open(), self.resources["storage"], milvus, embedder)

    def configured(self, **changes: Any) -> Self:
        """Return the same deployment under other settings."""
        return replace(self, settings=self.settings.model_copy(update=changes))

    def write(self, files: Mapping[str, str | bytes], source: str = "docs") -> Path:
        """Write files below the source's folder. Returns the folder."""
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
        self.dagster.add_partitions(keys)
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
        return job_named(job).execute_in_process(
            instance=self.instance,
            resources=self.resources,
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
        """Sync a source or a shard. Returns asset -> plan."""
        result = self.run("sync_source", source, tags=tags)
        return {
            event.step_materialization_data.materialization.asset_key.to_user_string(): dict(
                event.step_materialization_data.materialization.metadata["plan"].value  # pyright: ignore
            )
            for event in result.all_events
            if event.is_step_materialization
        }

    def fill(self, source: str = "docs") -> dict[str, dict[str, int]]:
        """Sync a source or a shard without Dagster: a third of the time. Returns asset -> plan."""
        return run_stages(self.resources, self.stores, source)

    def publish(self) -> dict[str, Any]:
        """Run the publication of a new model's collections. Returns its report."""
        return self.run("publish_collections", None).output_for_node("publish")

    def check(self, source: str = "docs") -> dict[str, dg.AssetCheckResult]:
        """Run every check of a source, without Dagster. Returns check -> result."""
        return run_checks(self.resources, source)

    def failed_checks(self, source: str = "docs") -> dict[str, str]:
        return {
            name: result.description or ""
            for name, result in self.check(source).items()
            if not result.passed
        }

    def searcher(self) -> Searcher:
        """Return a new searcher, which is closed with the deployment. It counts no hits: they are written later, amid
        another test."""
        return self.closing.enter_context(self._open_searcher())

    def _open_searcher(self) -> Searcher:
        stores = self.stores
        return Searcher.open(
            self.postgres,
            stores.milvus,
            stores.model.embedder,
            stores.model.fingerprint,
            stores.model.kinds,
            stores.index.dense_search,
            counted=False,
        )

    def search(
        self, text: str, *, filters: Mapping[str, object] | None = None, **options: Any
    ) -> list[Hit]:
        """Return the owner's hits for a text with these options of a request."""
        request = SearchRequest(text, filters=Filters.of(filters or {}), **options)
        with self._open_searcher() as searcher:
            return searcher.search(request, AccessScope.owner())

    def one(self, query: str, *parameters: Any) -> Any:
        """Return the first column of the first row, or None."""
        row = self.connection.execute(query, parameters).fetchone()  # pyright: ignore[reportArgumentType, reportCallIssue]
        return row[0] if row else None


@cache
def _opened(postgres_url: str) -> Connection:
    # DISCARD ALL would drop prepared statements behind psycopg's back.
    return psycopg.connect(postgres_url, autocommit=True, prepare_threshold=None)


def own_session(postgres_url: str) -> Connection:
    """Return the session of the tests, as new. A really new one costs PostgreSQL 20 ms."""
    session = _opened(postgres_url)
    if session.closed or session.broken:
        _opened.cache_clear()
        session = _opened(postgres_url)
    session.rollback()
    session.autocommit = True
    session.execute("DISCARD ALL")
    return session


@contextmanager
def empty_world(home: Path, postgres_url: str, milvus_uri: str, folder: Path) -> Iterator[World]:
    """Yield a deployment on the session's stores, emptied."""
    settings = Settings(
        home=home,
        postgres_url=postgres_url,
        milvus_uri=milvus_uri,
        storage_url=str(folder / "storage"),
        vectors=("dense", "sparse"),
        lock_timeout=5,
    )
    with ExitStack() as closing:
        connection = own_session(postgres_url)
        # Milvus Lite does not answer while it builds an index, even of a collection that is about to be dropped.
        empty_stores(connection, MilvusStore(milvus_uri, timeout=120))
        yield World(settings, folder / "sources", Dagster(closing), connection, closing)


def empty_stores(connection: Connection, store: MilvusStore) -> None:
    connection.execute("DELETE FROM sources")
    connection.execute("DELETE FROM users")
    connection.execute("DELETE FROM accounts")
    connection.execute("DELETE FROM login_failures")
    connection.execute("DELETE FROM forgotten")
    connection.execute("DELETE FROM vector_deletions")
    connection.execute("DELETE FROM vector_collections")
    connection.execute("DELETE FROM embedding_files")
    connection.execute("DELETE FROM model_probes")
    connection.execute("DELETE FROM partition_writers")
    connection.execute("DELETE FROM document_versions")
    connection.execute("DELETE FROM gone_signatures")
    for name in store.client.list_collections():
        for alias in store.client.list_aliases(name).get("aliases", []):
            store.client.drop_alias(alias)
        store.client.drop_collection(name)
    store.close()
