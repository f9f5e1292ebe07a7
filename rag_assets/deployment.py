"""The deployment that a command works with: its stack, its Dagster instance, and runs executed in this process.

Everything that changes data goes through Dagster, so that the UI shows what the command line did.
"""

from __future__ import annotations

import gc
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_assets.settings.load import PROJECT_ROOT, Settings, load_settings
from resources.embedded.stack import running
from resources.open_stores import (
    milvus_uri,
    open_embedder,
    open_milvus,
    open_postgres,
    postgres_url,
)
from resources.postgres.connection import Postgres
from resources.postgres.schema import migrate

if TYPE_CHECKING:
    import dagster as dg

    from rag_assets.pipeline.vectors import Embedder
    from rag_assets.search.searcher import Searcher
    from resources.files import FileStore
    from resources.milvus.store import MilvusStore


@dataclass
class Deployment:
    """One set of settings, and what they lead to. Dagster and pymilvus take seconds to import: where needed only."""

    settings: Settings

    @classmethod
    def from_environment(cls) -> Deployment:
        return cls(load_settings())

    @property
    def dagster_home(self) -> Path:
        return self.settings.home / "dagster"

    def start(self, *, dagster: bool = False) -> dict[str, str]:
        """Starts what is embedded and not running, brings the schema to date. Returns name -> URL without secrets.

        `dagster`: the command will run jobs; what that needs is imported while the servers start.
        """
        settings = self.settings
        settings.home.mkdir(parents=True, exist_ok=True)
        # Side by side: after a crash either server may need seconds to recover, and Dagster's modules need as many.
        with ThreadPoolExecutor(2) as beside:
            postgres = beside.submit(postgres_url, settings.postgres_url, settings.home)
            milvus = beside.submit(milvus_uri, settings.milvus_uri, settings.home)
            if dagster:
                _import_dagster()
        migrate(postgres.result())
        self.dagster_home.mkdir(exist_ok=True)
        wanted, present = PROJECT_ROOT / "dagster.yaml", self.dagster_home / "dagster.yaml"
        if not present.exists() or present.read_bytes() != wanted.read_bytes():
            shutil.copyfile(wanted, present)
        return {"postgres": postgres.result(), "milvus": milvus.result()}

    def endpoints(self) -> dict[str, str]:
        """Where PostgreSQL and Milvus are reached now, without starting anything; absent: not running."""
        found = (
            running(self.settings.home)
            if not (self.settings.postgres_url and self.settings.milvus_uri)
            else {}
        )
        own = {"postgres": self.settings.postgres_url, "milvus": self.settings.milvus_uri}
        return {**found, **{name: url for name, url in own.items() if url}}

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
        )

    def files(self) -> FileStore:
        from resources.files import FileStore

        return FileStore(self.settings.effective_storage_url)

    @property
    def embedder(self) -> Embedder:
        settings = self.settings
        return open_embedder(settings.embedder, settings.embedder_options, settings.openai_api_key)

    @property
    def model(self) -> str:
        """The fingerprint of the model in effect."""
        from rag_assets.pipeline.identity import model_fingerprint

        return model_fingerprint(self.embedder.identity)

    def searcher(self) -> Searcher:
        """Search on this deployment's stores with its embedder."""
        from rag_assets.search.searcher import Searcher

        return Searcher(
            self.postgres(),
            self.milvus(),
            self.embedder,
            self.model,
            self.settings.vectors,
            self.settings.dense_search,
            self.settings.search_limit,
            self.settings.fusion,
            self.settings.milvus_timeout,
            owns_milvus=True,
        )

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """Dagster's instance on the started stack. Runs of dead `rag` processes are failed first."""
        import dagster as dg

        from rag_assets.automation.dead_runs import fail_dead_runs

        os.environ["DAGSTER_HOME"] = str(self.dagster_home)
        instance = dg.DagsterInstance.get()
        fail_dead_runs(instance)
        return instance

    def sync_partitions(self) -> list[str]:
        """Makes Dagster's partitions equal to the table of sources. Returns those of whole sources."""
        from rag_assets.partitions import SOURCES, partition_keys, shard_of
        from resources.postgres.registry.sources import list_sources

        with self.postgres().connect(autocommit=True) as connection:
            wanted = [
                key for s in list_sources(connection) for key in partition_keys(s.name, s.shards)
            ]
        name = SOURCES.name or ""
        known = set(self.instance.get_dynamic_partitions(name))
        if missing := [key for key in wanted if key not in known]:
            self.instance.add_dynamic_partitions(name, missing)
        for key in known - set(wanted):
            self.instance.delete_dynamic_partition(name, key)
        return [key for key in wanted if shard_of(key) is None]

    def partitions_of(self, source: str | None) -> list[str]:
        """The partition of one source, or of all of them. Raises ConfigError for an unknown name."""
        from rag_assets.partitions import partition_key
        from resources.postgres.registry.sources import get_source

        keys = self.sync_partitions()
        if source is None:
            return keys
        with self.postgres().connect(autocommit=True) as connection:
            return [partition_key(get_source(connection, source).name)]

    def execute(
        self,
        job_name: str,
        partition: str | None = None,
        ops: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Runs a job in this process under the instance; `ops`: op -> its configuration. The result says all."""
        from dagster_postgres.utils import DagsterPostgresException
        from sqlalchemy.exc import DBAPIError

        from rag_assets.definitions import defs
        from rag_assets.partitions import PARTITION_TAG
        from resources.errors import StoreUnavailable
        from resources.run_processes import own_run_tags

        job, run_id = defs.resolve_job_def(job_name), str(uuid.uuid4())
        try:
            return job.execute_in_process(
                instance=self.instance,
                # By its tag: the parameter is refused for a job of checks alone.
                tags={
                    **own_run_tags(run_id),
                    **({PARTITION_TAG: partition} if partition else {}),
                    **(tags or {}),
                },
                run_config={
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                    "ops": {name: {"config": config} for name, config in (ops or {}).items()},
                },
                run_id=run_id,
                raise_on_error=False,
            )
        except (DBAPIError, DagsterPostgresException) as error:
            # Dagster keeps its events there too: without PostgreSQL it cannot even say that the run failed.
            raise StoreUnavailable(
                f"PostgreSQL went away during {job_name}; what was done is kept. Run the command again: {error}"
            ) from error


def _import_dagster() -> None:
    """Half a million objects that stay: looked through again and again by the collector they take a quarter longer."""
    gc.disable()
    try:
        import rag_assets.definitions  # noqa: F401
        from rag_assets import dagster_storage  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def failures(result: dg.ExecuteInProcessResult) -> Sequence[tuple[str, str]]:
    """(step, message) of the steps that failed, the user's messages without a traceback."""
    found = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                found.append((event.step_key or "", data.user_failure_data.description))
            elif data.error is not None:
                error = data.error.cause or data.error
                found.append((event.step_key or "", error.message.strip()))
    return found
