"""The deployment that a command works with: opens its stores and its Dagster instance, and executes jobs.

Only assembly. Everything that changes data goes through a Dagster job, so that the UI shows what the command line did.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_assets.job_runs import execute_job, run_records, set_partitions
from rag_assets.settings.load import Settings, load_settings
from rag_assets.settings.stores import data_file
from rag_assets.settings.unknown_variables import warn_of_unknown_variables
from resources.embedded.stack import running
from resources.errors import StoreUnavailable
from resources.extras import require_extra
from resources.home_folder import create_home
from resources.open_stores import (
    milvus_uri,
    open_embedder,
    open_milvus,
    open_postgres,
    open_redis,
    open_reranker,
    postgres_url,
    redis_url,
)
from resources.postgres.connection import Postgres
from resources.postgres.identity.audit_chain import append_operation
from resources.postgres.schema import migrate
from resources.secret_key import SecretKey, secret_key

if TYPE_CHECKING:
    import dagster as dg

    from rag_assets.evaluation.frames import Evaluations
    from rag_assets.identity.audit_anchors import Anchors
    from rag_assets.identity.audit_log import AuditLog
    from rag_assets.operations.lineage import LineageContext
    from rag_assets.pipeline.reranker import Reranker
    from rag_assets.pipeline.vectors import Embedder
    from rag_assets.search.searcher import Searcher
    from resources.files import FileStore
    from resources.frames import Records
    from resources.milvus.store import MilvusStore
    from resources.postgres.connection_pool import Connections
    from resources.postgres.consistency.check_results import CheckResult
    from resources.redis.client import RedisClient
    from resources.vector_stores import ModelTarget, VectorStores


#: Seconds that Milvus may take for each request before the work of a command.
PREPARE_SECONDS = 5.0

log = logging.getLogger("rag_assets.deployment")


def installed_version() -> str:
    """Return the version of this distribution."""
    return metadata.version("rag-assets")


@dataclass
class Deployment:
    """The stores and the Dagster instance of one set of settings.

    Dagster and pymilvus take seconds to import, so they are imported in the methods that need them.
    """

    settings: Settings

    @classmethod
    def from_environment(cls) -> Deployment:
        """Return the deployment that the environment and the settings file describe. Starts nothing."""
        settings = load_settings()
        warn_of_unknown_variables(settings.home)
        return cls(settings)

    @property
    def dagster_home(self) -> Path:
        return self.settings.home / "dagster"

    @property
    def trial_owner(self) -> str:
        """The part of the names of index trials that stands for this deployment."""
        from rag_assets.evaluation.abandoned_trials import trial_owner

        return trial_owner(self.settings.postgres_url or str(self.settings.home))

    def start(
        self, *, dagster: bool = False, indexes: bool = False, redis: bool = False
    ) -> dict[str, str]:
        """Start the embedded servers that are not running, and migrate the schema. Returns name -> URL.

        `dagster`: the command will run jobs; their modules are imported while the servers start. ConfigError is raised
        if Milvus does not accept the settings. `indexes`: also if it cannot index the kinds that are kept.
        `redis`: also the embedded Valkey, which only the service uses, if it is installed and no other server is set.
        """
        if dagster:
            require_extra("ingest", "A command that runs a Dagster job")
        settings = self.settings
        create_home(settings.home)
        # Concurrently: after a crash either server may need seconds to recover, and importing Dagster takes as long.
        with ThreadPoolExecutor(3) as pool:
            postgres = pool.submit(postgres_url, settings.postgres_url, settings.home)
            milvus = pool.submit(milvus_uri, settings.milvus_uri, settings.home)
            valkey = pool.submit(redis_url, settings.redis_url, settings.home) if redis else None
            if dagster:
                self._load_definitions()
        migrate(postgres.result())
        if dagster:
            self._prepare_milvus(indexes=indexes)
        self.dagster_home.mkdir(exist_ok=True)
        template, copy = data_file("dagster.yaml"), self.dagster_home / "dagster.yaml"
        if not copy.exists() or copy.read_bytes() != template.read_bytes():
            shutil.copyfile(template, copy)
        urls = {"postgres": postgres.result(), "milvus": milvus.result()}
        if valkey is not None and (url := valkey.result()):
            urls["valkey"] = url
        return urls

    def _prepare_milvus(self, *, indexes: bool) -> None:
        """Drop collections that nothing uses, and ask for what the server can do, before any work is done.

        A server that does not answer is not waited for: the run's steps try it again.
        """
        from rag_assets.evaluation.abandoned_trials import drop_abandoned_trial

        try:
            with closing(self._impatient_milvus()) as store:
                dropped = drop_abandoned_trial(store, self.postgres(), self.trial_owner)
                # The embedded server can index every kind.
                dropped += store.drop_unusable() if self.settings.milvus_uri else []
                if dropped:
                    log.warning(f"Milvus: dropped {', '.join(dropped)}, which nothing uses")
                if indexes and self.settings.milvus_uri:
                    store.capabilities.require_kinds(self.settings.vectors)
        except StoreUnavailable as error:
            log.debug(str(error))

    def _impatient_milvus(self) -> MilvusStore:
        return replace(self.milvus(), timeout=min(PREPARE_SECONDS, self.settings.milvus_timeout))

    def endpoints(self) -> dict[str, str]:
        """Return the URLs of the user's servers and of the running embedded ones. Starts nothing."""
        settings = self.settings
        own = {
            "postgres": settings.postgres_url,
            "milvus": settings.milvus_uri,
            "valkey": settings.redis_url,
        }
        embedded = {} if all(own.values()) else running(settings.home)
        return {**embedded, **{name: url for name, url in own.items() if url}}

    def redis(self) -> RedisClient | None:
        """Return a client of the Redis server, or None if there is none. Starts the embedded Valkey."""
        settings = self.settings
        return open_redis(settings.redis_url, settings.redis_ca, settings.redis_pool, settings.home)

    @property
    def audit_anchor_file(self) -> Path:
        return self.settings.audit_anchor_file or self.settings.home / "audit-anchors.jsonl"

    def audit_anchors(self) -> Anchors:
        """Return the writer of the audit's anchors."""
        from rag_assets.identity.audit_anchors import Anchors

        settings = self.settings
        return Anchors(
            self.audit_anchor_file, settings.audit_anchor_url, settings.audit_anchor_seconds
        )

    def audit_log(self) -> AuditLog:
        """Return the audit of this process, with its thread. The caller closes it."""
        from rag_assets.identity.audit_log import AuditLog

        return AuditLog(self.postgres().url, self.audit_anchors())

    def postgres(self) -> Postgres:
        settings = self.settings
        return open_postgres(settings.postgres_url, settings.home, settings.lock_timeout)

    def milvus(self) -> MilvusStore:
        settings = self.settings
        return open_milvus(
            settings.milvus_uri,
            settings.milvus_token,
            settings.home,
            settings.milvus_timeout,
            settings.search_consistency,
            settings.milvus_ca,
        )

    @contextmanager
    def open_vectors(self) -> Iterator[VectorStores]:
        """Open the stores of the vectors for a look at them: Milvus is not waited for longer than PREPARE_SECONDS."""
        from resources.milvus.index_config import IndexConfig
        from resources.vector_stores import VectorStores

        settings = self.settings
        index = IndexConfig(
            settings.dense_index,
            settings.sparse_index,
            settings.dense_search,
            settings.milvus_shards,
        )
        with closing(self._impatient_milvus()) as milvus:
            yield VectorStores(milvus, self.files(), index, self.model_target)

    def files(self) -> FileStore:
        from resources.files import FileStore

        return FileStore(self.settings.effective_storage_url)

    @property
    def secret(self) -> SecretKey:
        """The secret on which API keys and tokens depend. Its file is made at the first use."""
        return secret_key(self.settings.secret_key, self.settings.home)

    @property
    def embedder(self) -> Embedder:
        settings = self.settings
        return open_embedder(
            settings.embedder, settings.embedder_options, settings.vectors, settings.openai_api_key
        )

    @property
    def reranker(self) -> Reranker | None:
        """The configured reranker; None: searches rerank by MaxSim. Loads no model."""
        settings = self.settings
        return open_reranker(
            settings.reranker, settings.reranker_options, settings.reranker_api_key
        )

    @property
    def model_target(self) -> ModelTarget:
        """The configured model and the kinds of its vectors that are kept."""
        from resources.vector_stores import ModelTarget

        return ModelTarget(self.embedder, self.settings.vectors)

    @property
    def model(self) -> str:
        """The fingerprint of the configured model."""
        from rag_assets.pipeline.identity import model_fingerprint

        return model_fingerprint(self.embedder.identity)

    def searcher(
        self, *, connections: Connections | None = None, executor: Executor | None = None
    ) -> Searcher:
        """Return a searcher on this deployment's stores with its embedder. What is given stays the caller's."""
        from rag_assets.search.searcher import Searcher

        return Searcher.open(
            self.postgres(),
            self.milvus(),
            self.embedder,
            self.model,
            self.settings.vectors,
            self.settings.dense_search,
            limit=self.settings.search_limit,
            fusion=self.settings.fusion,
            timeout=self.settings.milvus_timeout,
            owns_milvus=True,
            reranker=self.reranker,
            reranked=self.settings.reranker_candidates,
            min_score=self.settings.min_score,
            connections=connections,
            executor=executor,
        )

    def check_results(self, source: str | None = None) -> Records[CheckResult]:
        """Return the last result of every check of a source, or of all sources."""
        from resources.frames import Records
        from resources.postgres.consistency.check_results import CheckResult, last_results
        from resources.postgres.registry.sources import get_source

        with self.postgres().connect(autocommit=True) as connection:
            if source is not None:
                source = get_source(connection, source).name
            return Records(CheckResult, last_results(connection, source))

    def evaluations(
        self, retrieval_set: str | None = None, *, limit: int | None = None, queries: bool = False
    ) -> Evaluations:
        """Return the evaluations of a retrieval set, or of all sets, the newest first.

        `limit`: the maximum number of evaluations. `queries`: also read the results of single queries.
        """
        from rag_assets.evaluation.frames import Evaluations
        from resources.postgres.evaluation.evaluations import evaluations
        from resources.postgres.evaluation.retrieval_sets import get_set

        with self.postgres().connect(autocommit=True) as connection:
            if retrieval_set is not None:
                retrieval_set = get_set(connection, retrieval_set).name
            return Evaluations(
                evaluations(connection, retrieval_set, limit=limit, with_queries=queries)
            )

    def lineage(self) -> LineageContext:
        """Return the stores and settings that explain a document's life."""
        from rag_assets.operations.lineage import LineageContext

        return LineageContext(
            postgres=self.postgres(),
            open_files=self.files,
            open_milvus=self.milvus,
            model_fingerprint=lambda: self.model,
            kinds=self.settings.vectors,
            parse_seconds=self.settings.parse_seconds,
            parse_memory_mib=self.settings.parse_memory_mib,
            run_records=self.run_records,
        )

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """Dagster's instance on the started stack. Fails the runs of dead `rag` processes first."""
        require_extra("ingest", "Dagster's instance")
        import dagster as dg

        from rag_assets.automation.dead_runs import fail_dead_runs

        os.environ["DAGSTER_HOME"] = str(self.dagster_home)
        instance = dg.DagsterInstance.get()
        fail_dead_runs(instance)
        return instance

    @cached_property
    def definitions(self) -> dg.Definitions:
        """All jobs, under this deployment's settings."""
        from rag_assets.definitions import build_definitions

        return build_definitions(settings=self.settings)

    def _load_definitions(self) -> None:
        # Half a million objects that are never freed: if the garbage collector scans them again and again, this takes
        # a quarter longer.
        gc.disable()
        try:
            from rag_assets import dagster_storage  # noqa: F401

            _ = self.definitions
        finally:
            gc.freeze()
            gc.enable()

    def sync_partitions(self) -> list[str]:
        """Make Dagster's partitions equal to the table of sources. Returns the partitions of whole sources."""
        from resources.partition_keys import partition_keys, shard_of
        from resources.postgres.registry.sources import list_sources

        with self.postgres().connect(autocommit=True) as connection:
            keys = [
                key for s in list_sources(connection) for key in partition_keys(s.name, s.shards)
            ]
        set_partitions(self.instance, keys)
        return [key for key in keys if shard_of(key) is None]

    def partitions_of(self, source: str | None) -> list[str]:
        """Return the partition of one source, or of all. Raises ConfigError for an unknown name."""
        from resources.partition_keys import partition_key
        from resources.postgres.registry.sources import get_source

        keys = self.sync_partitions()
        if source is None:
            return keys
        with self.postgres().connect(autocommit=True) as connection:
            return [partition_key(get_source(connection, source).name)]

    def run_records(self, run_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return run id -> job, status, started_at and url (a path of Dagster's UI). Deleted runs are absent."""
        return run_records(self.instance, run_ids) if run_ids else {}

    def execute(
        self,
        job_name: str,
        partition: str | None = None,
        ops: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Execute a job in this process. `ops`: op -> its configuration. A failed run is in the result, not raised."""
        job = self.definitions.resolve_job_def(job_name)
        with self.postgres().connect() as connection:
            append_operation(connection, "job.run", f"job:{job_name}", partition=partition)
        return execute_job(job, self.instance, partition, ops or {}, tags or {})
