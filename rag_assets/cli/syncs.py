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

from rag_assets.cli.exit_codes import ExitCode, exit_code, run_exit_code
from rag_assets.cli.output import bars
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures
from rag_assets.settings.load import load_settings
from resources.errors import RagError, SourceUnavailable

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
    #: Some of the documents that wait for the next sync, since their content is being written, and the number of all.
    left: list[str] = field(default_factory=list)
    left_count: int = 0
    #: Documents that keep their contents until a person decides.
    held_back: int = 0
    #: Documents that were read without some of their parts, the first of them, and the number of all.
    left_out: list[dict[str, str]] = field(default_factory=list)
    left_out_count: int = 0
    #: Why documents that are not listed were not deleted.
    not_deleted: str = ""
    #: If the source has no documents: which settings decide what is read.
    hint: str = ""
    #: Of the errors. UNREACHABLE: a store or another writer stopped the sync, not the source, and the same command may
    #: succeed later. WRONG_INPUT: a setting must be changed.
    exit_code: ExitCode = ExitCode.FAILED

    @classmethod
    def of_shards(cls, source: str, keys: list[str], shards: list[Report]) -> Report:
        """Return the sum of the shards' reports; seconds are the sum over all processes."""
        total = cls(source, keys)
        for asset in max((shard.plan for shard in shards), key=len):
            done = [shard for shard in shards if asset in shard.plan]
            names = done[0].plan[asset]
            total.plan[asset] = {n: sum(shard.plan[asset][n] for shard in done) for n in names}
            total.seconds[asset] = round(sum(shard.seconds[asset] for shard in done), 3)
        for shard in shards:
            total.left += shard.left
            total.left_count += shard.left_count
            total.held_back += shard.held_back
            total.left_out += shard.left_out
            total.left_out_count += shard.left_out_count
            total.not_deleted = total.not_deleted or shard.not_deleted
        total.errors = [
            (f"{step} of {shard.partitions[0]}", message)
            for shard in shards
            for step, message in shard.errors
        ]
        total.exit_code = common_exit_code([shard for shard in shards if shard.errors])
        return total

    @property
    def is_idle(self) -> bool:
        """Whether the source was up to date in every stage."""
        changes = ("inserted", "replaced", "deleted", "failed")
        attention = self.errors or self.left_count or self.held_back or self.not_deleted
        return (
            bool(self.plan)
            and not attention
            and not any(plan[change] for plan in self.plan.values() for change in changes)
        )

    @property
    def found_nothing(self) -> bool:
        plan = self.plan.get("source_documents")
        return plan is not None and not self.errors and not any(plan.values())

    def as_json(self) -> dict[str, Any]:
        report = {
            "source": self.source,
            "partitions": self.partitions,
            "plan": self.plan,
            "seconds": self.seconds,
            "failed_documents": self.failed_documents,
        }
        if self.left_count:
            report["left_for_next_sync"] = {"count": self.left_count, "documents": self.left}
        if self.held_back:
            report["held_back"] = self.held_back
        if self.left_out_count:
            report["left_out"] = {"count": self.left_out_count, "documents": self.left_out}
        if self.not_deleted:
            report["not_deleted"] = self.not_deleted
        if self.hint:
            report["hint"] = self.hint
        if self.errors:
            report["errors"] = [{"step": step, "message": message} for step, message in self.errors]
        return report


@dataclass(frozen=True)
class Syncs:
    """Syncs sources. `ops`: op -> its configuration; `quiet`: no progress bars.

    `durations`: a line for each run so far, which a person reads after the results.
    """

    deployment: Deployment
    ops: Mapping[str, Any] | None = None
    quiet: bool = False
    durations: list[str] = field(default_factory=list)

    def of(self, sources: Sequence[str]) -> list[Report]:
        """Sync the sources without shards in few runs, since most have nothing to do, and each shard in a process."""
        from rag_assets.partitions import STEP_RETRIES_TAG
        from resources.partition_keys import sync_keys
        from resources.postgres.registry.sources import get_source

        with self.deployment.postgres().connect(autocommit=True) as connection:
            keys = {s: sync_keys(s, get_source(connection, s).shards) for s in sources}
        with bars(self.quiet):
            reports, failing = self._in_few_runs([s for s in sources if len(keys[s]) == 1])
            for source in sources:
                if len(keys[source]) > 1:
                    with self._timed(source):
                        reports[source] = in_shards(source, keys[source], self.ops)
            # At the end: a server that does not answer must not delay the other sources.
            for source in failing:
                with self._timed(f"{source}, which failed, again"):
                    tags = {STEP_RETRIES_TAG: "1"}
                    reports[source] = run(self.deployment, source, self.ops, tags)
        add_facts(self.deployment, reports)
        return [reports[source] for source in sources]

    def _in_few_runs(self, sources: Sequence[str]) -> tuple[dict[str, Report], list[str]]:
        """Run once per range of adjacent partitions. Returns the reports, and the sources to run alone at the end."""
        from rag_assets.partitions import SOURCES

        partitions = self.deployment.instance.get_dynamic_partitions(SOURCES.name or "")
        reports: dict[str, Report] = {}
        failing: list[str] = []
        for keys in ranges(partitions, set(sources)):
            with self._timed(keys[0] if len(keys) == 1 else f"{len(keys)} sources"):
                if len(keys) == 1:
                    reports[keys[0]] = run(self.deployment, keys[0], self.ops)
                    continue
                done, alone = run_range(self.deployment, keys, self.ops)
            reports |= done
            failing += alone
            if unfinished := [key for key in keys if key not in done and key not in alone]:
                others, alone = self._in_few_runs(unfinished)
                reports |= others
                failing += alone
        return reports, failing

    @contextmanager
    def _timed(self, label: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.durations.append(f"{label}: {time.monotonic() - started:.1f} s")


def add_facts(deployment: Deployment, reports: Mapping[str, Report]) -> None:
    """Add to each source's report its failed documents, and the hint for a source without documents."""
    from rag_assets.operations.ingest_messages import nothing_found
    from resources.postgres.documents.documents import failed_documents
    from resources.postgres.registry.sources import get_source

    with deployment.postgres().connect(autocommit=True) as connection:
        for source, report in reports.items():
            row = get_source(connection, source)
            report.failed_documents = [
                {"key": document.key, "step": document.step, "reason": document.reason}
                for document in failed_documents(connection, [row.id])
            ]
            if report.found_nothing:
                report.hint = nothing_found(row)


def ranges(partitions: Sequence[str], selected: Collection[str]) -> list[list[str]]:
    """Return the selected partitions, grouped into ranges that are adjacent in Dagster's order."""
    groups = groupby(partitions, key=lambda key: key in selected)
    return [list(keys) for is_selected, keys in groups if is_selected]


def run(
    deployment: Deployment,
    key: str,
    ops: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Report:
    """Sync one partition in a run of its own."""
    result = deployment.execute(JOB, key, ops, tags)
    report = Report(key, [key], errors=list(failures(result)))
    report.exit_code = _exit_code(result)
    _read(result, {key: report})
    return report


def common_exit_code(reports: Sequence[Report]) -> ExitCode:
    """Return the exit code of reports with errors: theirs if all have the same one, else FAILED."""
    codes = {report.exit_code for report in reports}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED


def _exit_code(result: dg.ExecuteInProcessResult) -> ExitCode:
    """Return the code of a failed run. A server of the source itself that does not answer is a failed sync."""
    code = ExitCode.FAILED if result.success else run_exit_code(result)
    of_source = code == ExitCode.UNREACHABLE and any(
        data.metadata["error"].value == SourceUnavailable.__name__
        for event in result.all_events
        if event.is_step_failure
        and (data := event.step_failure_data.user_failure_data) is not None
        and "error" in data.metadata
    )
    return ExitCode.FAILED if of_source else code


def run_range(
    deployment: Deployment, keys: Sequence[str], ops: Mapping[str, Any] | None = None
) -> tuple[dict[str, Report], list[str]]:
    """Sync adjacent partitions in one run, which leaves out those that fail.

    Returns key -> report of the finished ones, and the ones to run alone: they failed, and a retry may help, or the run
    does not say why they failed. The others must run again without them.
    """
    from rag_assets.assets.failures import FAILED, errors_of_run
    from rag_assets.assets.interruptions import is_interrupted
    from rag_assets.partitions import RANGE_END_TAG, RANGE_TAG

    tags = {RANGE_TAG: keys[0], RANGE_END_TAG: keys[-1]}
    result = deployment.execute(JOB, None, ops, tags)
    reports = {key: Report(key, [key]) for key in keys}
    _read(result, reports)
    if result.success:
        return reports, []
    if is_interrupted():
        for report in reports.values():
            report.errors += failures(result)
        return reports, []
    errors = errors_of_run(result.run_id)
    failing = {*errors, *_failed_partitions(result, FAILED)} or {*keys}
    alone = []
    for key in keys:
        if key in errors and not errors[key].error.transient:
            reports[key].errors.append((errors[key].step, str(errors[key].error)))
            reports[key].exit_code = exit_code(errors[key].error)
        elif key in failing:
            del reports[key]
            alone.append(key)
        elif not _is_finished(result, key):
            del reports[key]
    return reports, alone


def _failed_partitions(result: dg.ExecuteInProcessResult, name: str) -> Sequence[str]:
    """Return the partitions that failed steps list in their metadata under `name`."""
    keys: dict[str, None] = {}
    for event in result.all_events:
        data = event.step_failure_data.user_failure_data if event.is_step_failure else None
        if data is not None and name in data.metadata:
            keys |= dict.fromkeys(data.metadata[name].value)  # pyright: ignore
    return list(keys)


def _is_finished(result: dg.ExecuteInProcessResult, key: str) -> bool:
    """Return whether each failed step materialized the partition before it failed for others."""
    failed = {event.step_key for event in result.all_events if event.is_step_failure}
    materialized = {
        event.step_key
        for event in result.all_events
        if event.is_step_materialization
        and event.step_materialization_data.materialization.partition == key
    }
    return failed <= materialized


def _read(result: dg.ExecuteInProcessResult, reports: Mapping[str, Report]) -> None:
    from rag_assets.ingestion.fetch import HELD_BACK, LEFT, LEFT_DOCUMENTS, LISTED_BY, NOT_DELETED
    from rag_assets.ingestion.parse import DELETED_CHUNKS, LEFT_OUT, LEFT_OUT_COUNT

    deleted_with_documents: dict[str, int] = {}
    for event in result.all_events:
        if not event.is_step_materialization:
            continue
        materialization = event.step_materialization_data.materialization
        metadata: Mapping[str, Any] = materialization.metadata
        # Reported by the shard that listed the source.
        if LISTED_BY in metadata:
            continue
        report, asset = reports[materialization.partition or ""], materialization.asset_key
        report.plan[asset.to_user_string()] = dict(metadata["plan"].value)
        report.seconds[asset.to_user_string()] = metadata["seconds"].value
        if LEFT in metadata:
            report.left_count = metadata[LEFT].value
            report.left = [str(x.data["document"]) for x in metadata[LEFT_DOCUMENTS].records]
        if HELD_BACK in metadata:
            report.held_back = metadata[HELD_BACK].value
        if LEFT_OUT_COUNT in metadata:
            report.left_out_count = metadata[LEFT_OUT_COUNT].value
            report.left_out = [
                {name: str(value) for name, value in record.data.items()}
                for record in metadata[LEFT_OUT].records
            ]
        if DELETED_CHUNKS in metadata:
            deleted_with_documents[materialization.partition or ""] = metadata[DELETED_CHUNKS].value
        if NOT_DELETED in metadata:
            report.not_deleted = metadata[NOT_DELETED].value
    for key, count in deleted_with_documents.items():
        if chunks := reports[key].plan.get("document_chunks"):
            chunks["deleted"] += count
    for evaluation in result.get_asset_check_evaluations():
        # A warning: the run left out the sources for which the check failed, and says so by itself.
        if not evaluation.passed and evaluation.severity.value == "ERROR":
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
            f"there: rag ingest {source}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_this_process(key: str, ops: Mapping[str, Any] | None, tags: Mapping[str, str]) -> Report:
    return run(_deployment(), key, ops, tags)


@cache
def _deployment() -> Deployment:
    """Return the deployment of this process. Its jobs and its Dagster instance serve all shards that it syncs."""
    # The parent process has warned of unknown variables.
    return Deployment(load_settings())
