"""How `rag ingest` runs syncs: sources side by side in one run, shards in a process each; and what they did."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """What one source's sync did."""

    source: str
    partitions: list[str]
    plan: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed_documents: list[dict[str, str]] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of_shards(cls, source: str, keys: list[str], shards: list[Report]) -> Report:
        """The sums of what the shards' syncs did; seconds are those of all processes."""
        whole = cls(source, keys)
        for asset in max((each.plan for each in shards), key=len):
            found = [each for each in shards if asset in each.plan]
            names = found[0].plan[asset]
            whole.plan[asset] = {n: sum(each.plan[asset][n] for each in found) for n in names}
            whole.seconds[asset] = round(sum(each.seconds[asset] for each in found), 3)
        whole.errors = [
            (f"{step} of {each.partitions[0]}", why) for each in shards for step, why in each.errors
        ]
        return whole

    def as_json(self) -> dict[str, Any]:
        found = {
            "source": self.source,
            "partitions": self.partitions,
            "plan": self.plan,
            "seconds": self.seconds,
            "failed_documents": self.failed_documents,
        }
        if self.errors:
            found["errors"] = [{"step": step, "message": message} for step, message in self.errors]
        return found


@dataclass(frozen=True)
class Syncs:
    """Syncs sources. `ops`: op -> its configuration; `quiet`: no bars, no seconds."""

    deployment: Deployment
    ops: Mapping[str, Any] | None = None
    quiet: bool = False

    def of(self, sources: Sequence[str]) -> list[Report]:
        """Those in one piece in as few runs as can be, since most have nothing to do; shards in a process each."""
        from rag_assets.partitions import sync_keys
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
        """A run over each range of partitions. Dagster leaves out the later steps of all where one fails: those that
        fail have a run of their own, and the others one without them."""
        from rag_assets.partitions import SOURCES

        known = self.deployment.instance.get_dynamic_partitions(SOURCES.name or "")
        found: dict[str, Report] = {}
        for several in ranges(known, set(sources)):
            with self._timed(several[0] if len(several) == 1 else f"{len(several)} sources"):
                reports, failing = run(self.deployment, several, self.ops)
            found |= reports
            if failing:
                found |= self._in_few_runs([each for each in several if each not in failing])
                for each in failing:
                    with self._timed(each):
                        found |= run(self.deployment, [each], self.ops)[0]
        return found

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        if not self.quiet:
            err.print(f"{what}: {time.monotonic() - started:.1f} s")


def ranges(known: Sequence[str], wanted: Collection[str]) -> list[list[str]]:
    """The wanted ones of Dagster's partitions, those that stand side by side together."""
    groups = groupby(known, key=lambda key: key in wanted)
    return [list(keys) for are_wanted, keys in groups if are_wanted]


def run(
    deployment: Deployment,
    keys: Sequence[str],
    ops: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> tuple[dict[str, Report], Sequence[str]]:
    """Syncs the partitions of a range in one run: key -> report. Where that fails for several, no reports but which of
    them are to be run by themselves."""
    from rag_assets.assets.run_stage import FAILED, is_interrupted
    from rag_assets.partitions import RANGE_END_TAG, RANGE_TAG

    if len(keys) > 1:
        tags = {**(tags or {}), RANGE_TAG: keys[0], RANGE_END_TAG: keys[-1]}
    result = deployment.execute(JOB, keys[0] if len(keys) == 1 else None, ops, tags)
    if len(keys) > 1 and not result.success and not is_interrupted():
        return {}, _named(result, FAILED) or keys
    reports = {key: Report(key, [key], errors=list(failures(result))) for key in keys}
    _read(result, reports)
    return reports, ()


def _named(result: dg.ExecuteInProcessResult, name: str) -> Sequence[str]:
    """The partitions that failed steps name."""
    found: dict[str, None] = {}
    for event in result.all_events:
        data = event.step_failure_data.user_failure_data if event.is_step_failure else None
        if data is not None and name in data.metadata:
            found |= dict.fromkeys(data.metadata[name].value)  # pyright: ignore
    return list(found)


def _read(result: dg.ExecuteInProcessResult, reports: Mapping[str, Report]) -> None:
    from rag_assets.assets.source_documents import BY_ANOTHER

    for event in result.all_events:
        if not event.is_step_materialization:
            continue
        materialization = event.step_materialization_data.materialization
        metadata: Mapping[str, Any] = materialization.metadata
        if BY_ANOTHER in metadata:
            continue  # said by the shard that did it
        report, asset = reports[materialization.partition or ""], materialization.asset_key
        report.plan[asset.to_user_string()] = metadata["plan"].value
        report.seconds[asset.to_user_string()] = metadata["seconds"].value
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed:
            for report in reports.values():
                report.errors.append((evaluation.check_name, evaluation.description or "failed"))


def in_shards(source: str, keys: list[str], ops: Mapping[str, Any] | None) -> Report:
    """Syncs the shards of a source, a process each, as many at a time as there are processors."""
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
            f"A process that synced a shard of {source} died. What was committed stays; the next sync goes on from "
            f"there: rag ingest --name {source}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_this_process(key: str, ops: Mapping[str, Any] | None, tags: Mapping[str, str]) -> Report:
    return run(Deployment.from_environment(), [key], ops, tags)[0][key]
