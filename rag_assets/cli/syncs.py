"""How `rag ingest` runs syncs: several sources in one run, each shard in its own process; and their reports."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rag_assets.cli.output import bars, err
from rag_assets.deployment import Deployment, failures
from resources.errors import RagError

if TYPE_CHECKING:
    import dagster as dg

JOB = "sync_source"


@dataclass
class Report:
    """The result of one source's sync."""

    source: str
    partitions: list[str]
    plan: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed_documents: list[dict[str, str]] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of_shards(cls, source: str, keys: list[str], shards: list[Report]) -> Report:
        """Return the sum of the shards' reports; seconds are the sum over all processes."""
        total = cls(source, keys)
        for asset in max((shard.plan for shard in shards), key=len):
            done = [shard for shard in shards if asset in shard.plan]
            names = done[0].plan[asset]
            total.plan[asset] = {n: sum(shard.plan[asset][n] for shard in done) for n in names}
            total.seconds[asset] = round(sum(shard.seconds[asset] for shard in done), 3)
        total.errors = [
            (f"{step} of {shard.partitions[0]}", message)
            for shard in shards
            for step, message in shard.errors
        ]
        return total

    def as_json(self) -> dict[str, Any]:
        report = {
            "source": self.source,
            "partitions": self.partitions,
            "plan": self.plan,
            "seconds": self.seconds,
            "failed_documents": self.failed_documents,
        }
        if self.errors:
            report["errors"] = [{"step": step, "message": message} for step, message in self.errors]
        return report


@dataclass(frozen=True)
class Syncs:
    """Syncs sources. `ops`: op -> its configuration; `quiet`: no progress bars, no durations."""

    deployment: Deployment
    ops: Mapping[str, Any] | None = None
    quiet: bool = False

    def of(self, sources: Sequence[str]) -> list[Report]:
        """Sync the sources without shards in few runs, since most have nothing to do, and each shard in a process."""
        from resources.partition_keys import sync_keys
        from resources.postgres.documents.documents import failed_documents
        from resources.postgres.registry.sources import get_source

        with self.deployment.postgres().connect(autocommit=True) as connection:
            keys = {s: sync_keys(s, get_source(connection, s).shards) for s in sources}
        with bars(self.quiet):
            reports = self._in_few_runs([s for s in sources if len(keys[s]) == 1])
            for source in sources:
                if len(keys[source]) > 1:
                    with self._timed(source):
                        reports[source] = in_shards(source, keys[source], self.ops)
        with self.deployment.postgres().connect(autocommit=True) as connection:
            for source, report in reports.items():
                failed = failed_documents(connection, get_source(connection, source).id)
                report.failed_documents = [{"key": key, "reason": why} for key, why in failed]
        return [reports[source] for source in sources]

    def _in_few_runs(self, sources: Sequence[str]) -> dict[str, Report]:
        """Run once per range of adjacent partitions.

        If a source fails, Dagster skips the later steps of all sources of the run. The failing ones then run alone, and
        the others together, without them.
        """
        from rag_assets.partitions import SOURCES

        partitions = self.deployment.instance.get_dynamic_partitions(SOURCES.name or "")
        reports: dict[str, Report] = {}
        for keys in ranges(partitions, set(sources)):
            with self._timed(keys[0] if len(keys) == 1 else f"{len(keys)} sources"):
                new_reports, failing = run(self.deployment, keys, self.ops)
            reports |= new_reports
            if failing:
                reports |= self._in_few_runs([key for key in keys if key not in failing])
                for key in failing:
                    with self._timed(key):
                        reports |= run(self.deployment, [key], self.ops)[0]
        return reports

    @contextmanager
    def _timed(self, label: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        if not self.quiet:
            err.print(f"{label}: {time.monotonic() - started:.1f} s")


def ranges(partitions: Sequence[str], selected: Collection[str]) -> list[list[str]]:
    """Return the selected partitions, grouped into ranges that are adjacent in Dagster's order."""
    groups = groupby(partitions, key=lambda key: key in selected)
    return [list(keys) for is_selected, keys in groups if is_selected]


def run(
    deployment: Deployment,
    keys: Sequence[str],
    ops: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> tuple[dict[str, Report], Sequence[str]]:
    """Sync the partitions of a range in one run. Returns key -> report.

    If a run of several partitions fails, returns no reports, but the partitions to run alone.
    """
    from rag_assets.assets.run_stage import FAILED, is_interrupted
    from rag_assets.partitions import RANGE_END_TAG, RANGE_TAG

    if len(keys) > 1:
        tags = {**(tags or {}), RANGE_TAG: keys[0], RANGE_END_TAG: keys[-1]}
    result = deployment.execute(JOB, keys[0] if len(keys) == 1 else None, ops, tags)
    if len(keys) > 1 and not result.success and not is_interrupted():
        return {}, _failed_partitions(result, FAILED) or keys
    reports = {key: Report(key, [key], errors=list(failures(result))) for key in keys}
    _read(result, reports)
    return reports, ()


def _failed_partitions(result: dg.ExecuteInProcessResult, name: str) -> Sequence[str]:
    """Return the partitions that failed steps list in their metadata under `name`."""
    keys: dict[str, None] = {}
    for event in result.all_events:
        data = event.step_failure_data.user_failure_data if event.is_step_failure else None
        if data is not None and name in data.metadata:
            keys |= dict.fromkeys(data.metadata[name].value)  # pyright: ignore
    return list(keys)


def _read(result: dg.ExecuteInProcessResult, reports: Mapping[str, Report]) -> None:
    from rag_assets.ingestion.fetch import LISTED_BY

    for event in result.all_events:
        if not event.is_step_materialization:
            continue
        materialization = event.step_materialization_data.materialization
        metadata: Mapping[str, Any] = materialization.metadata
        # Reported by the shard that listed the source.
        if LISTED_BY in metadata:
            continue
        report, asset = reports[materialization.partition or ""], materialization.asset_key
        report.plan[asset.to_user_string()] = metadata["plan"].value
        report.seconds[asset.to_user_string()] = metadata["seconds"].value
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed:
            for report in reports.values():
                report.errors.append((evaluation.check_name, evaluation.description or "failed"))


def in_shards(source: str, keys: list[str], ops: Mapping[str, Any] | None) -> Report:
    """Sync each shard of a source in its own process, as many at a time as there are processors."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    from rag_assets.partitions import SYNC_TAG
    from rag_assets.pipeline import progress

    tags = {SYNC_TAG: str(uuid.uuid4())}
    workers = min(len(keys), os.cpu_count() or 1)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        jobs = [pool.submit(_in_this_process, key, ops, tags) for key in keys]
        for done, _ in enumerate(as_completed(jobs), 1):
            progress.report("shards", source, done, len(keys))
        return Report.of_shards(source, keys, [job.result() for job in jobs])
    except BrokenProcessPool as error:
        raise RagError(
            f"A process that synced a shard of {source} died. Committed work is kept; the next sync continues from "
            f"there: rag ingest --name {source}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_this_process(key: str, ops: Mapping[str, Any] | None, tags: Mapping[str, str]) -> Report:
    return run(_deployment(), [key], ops, tags)[0][key]


@cache
def _deployment() -> Deployment:
    """Return the deployment of this process. Its jobs and its Dagster instance serve all shards that it syncs."""
    return Deployment.from_environment()
