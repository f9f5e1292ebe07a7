"""How the errors of a step become a failed step: the reasons, and beside them what a person needs to act.

Which partitions of a run failed in an earlier step is remembered here too: the later steps leave them out.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import psycopg

from rag_assets.assets.documentation import documentation
from rag_assets.assets.interruptions import Context, ending_when_interrupted
from rag_assets.dagster_internals import last_assets
from rag_assets.partitions import MAX_RETRIES_TAG, STEP_RETRIES_TAG
from rag_assets.settings.load import load_settings
from resources.errors import (
    ConfigError,
    ContentGuard,
    DeletionGuard,
    EmbedderDied,
    EmbedderUnavailable,
    Fenced,
    RagError,
    SourceError,
    SourceRemoved,
    SourceUnavailable,
    StoreUnavailable,
    UnexpectedError,
)
from resources.library_errors import as_rag_error
from resources.urls import without_secrets
from resources.waiting import report

#: A store that restarts is back within seconds; a fault that lasts half a minute needs a person.
RETRY = dg.RetryPolicy(
    max_retries=3, delay=load_settings().retry_delay, backoff=dg.Backoff.EXPONENTIAL
)

#: In the metadata of a failed step: the partitions for which it failed.
FAILED = "failed"

#: Unexpected errors that occur again if the same code meets the same data. Any other may come from outside.
_REPEATED = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RecursionError),
    *(TypeError, ValueError, psycopg.DatabaseError),
)

#: Characters of an unexpected error's text in a message.
_MAX_REASON = 300

#: Error -> the next step; the first class that fits.
_NEXT_STEPS: Mapping[type[RagError], str] = {
    SourceUnavailable: "Check that its server answers this machine. The source is tried again automatically, after 1, "
    "2, 4 … minutes; by hand: rag ingest {source}",
    DeletionGuard: "Check the source. If the deletions are intended: rag ingest {source} --accept-deletions",
    ContentGuard: "Check the source. If the new content is right: rag ingest {source} --accept-replacements",
    SourceError: "Fix the source, or its configuration (rag sources show {source}), then: rag ingest {source}",
    EmbedderUnavailable: "Check the embedding server, then run again; texts embedded so far are kept.",
    EmbedderDied: "Look for a lack of memory in the run's log; a smaller RAG_BGE_M3_BATCH_TOKENS or "
    "RAG_ST_BATCH_TOKENS needs less.",
    StoreUnavailable: "Check the stores (rag status; the embedded ones start with rag up), then run again.",
    Fenced: "Nothing: the other writer does the remaining work.",
    SourceRemoved: "Nothing: the syncs of the present sources are requested by themselves.",
    UnexpectedError: "Please report it with its traceback, which is in the run's log. The source is tried again "
    "automatically, after 1, 2, 4 … minutes.",
    ConfigError: "Change the setting or the command that the message names, then run again.",
    RagError: "Run again; committed work is kept.",
}


@dataclass(frozen=True)
class StepError:
    """The error of one partition in one step. `config`: the configuration of its source, if it is known."""

    partition: str
    step: str
    error: RagError
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def next_step(self) -> str:
        fitting = (text for kind, text in _NEXT_STEPS.items() if isinstance(self.error, kind))
        return next(fitting).format(source=self.partition)

    @property
    def address(self) -> str:
        """The address of the source, without secrets; empty if it is not known."""
        names = ("url", "sitemap", "urls", "path")
        value = next((self.config[name] for name in names if self.config.get(name)), "")
        return without_secrets(str(value[0] if isinstance(value, list) else value))


def as_stage_error(error: Exception, log: logging.Logger) -> RagError:
    """Return the error of one source as one of ours, so that it does not end the work on the others.

    Logs the traceback of an unexpected error.
    """
    if isinstance(error, RagError):
        return error
    if (known := as_rag_error(error)) is not None:
        return known
    reason = " ".join(str(error).split())[:_MAX_REASON]
    unexpected = UnexpectedError(
        f"unexpected {type(error).__name__}: {reason}. Please report it; the run's log has its traceback."
    )
    unexpected.transient = not isinstance(error, _REPEATED)
    log.error("".join(traceback.format_exception(error)))
    return unexpected


def step_failure(errors: Sequence[StepError], *, retry: bool, others: int = 0) -> dg.Failure:
    """Return the failure of a step. `retry`: the step may run again now. `others`: partitions that it finished."""
    lines = [f"{item.partition}: {item.error}" for item in errors]
    if others:
        lines.append(f"Partitions that this step brought up to date: {others}.")
    first = errors[0]
    if len(errors) == 1:
        metadata: dict[str, Any] = {
            "source": first.partition,
            "stage": first.step,
            **({"address": first.address} if first.address else {}),
            "error": type(first.error).__name__,
            "what to do": first.next_step,
        }
    else:
        columns = ("source", "stage", "error", "address", "what to do")
        table = dg.MetadataValue.table(
            [dg.TableRecord(dict(zip(columns, _row(item)))) for item in errors],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in columns]),
        )
        metadata = {"what to do": table}
    metadata["docs"] = documentation("how-to/troubleshoot.md")
    metadata[FAILED] = dg.MetadataValue.json([item.partition for item in errors])
    return dg.Failure("\n".join(lines), metadata=metadata, allow_retries=retry)


def _row(item: StepError) -> tuple[str, ...]:
    return (
        item.partition,
        item.step,
        f"{type(item.error).__name__}: {item.error}",
        item.address,
        item.next_step,
    )


def may_retry(context: Context, error: RagError) -> bool:
    """Return whether the step may run again now.

    The last attempt is no longer one: Dagster would put "Exceeded max_retries" above the reason.
    """
    most = int(context.run.tags.get(STEP_RETRIES_TAG, RETRY.max_retries))
    return error.transient and context.retry_number < most


def report_retry(context: Context, reason: object) -> None:
    """Tell a person at a terminal why the run waits: its step failed, and runs again after a delay."""
    delay = RETRY.calculate_delay(context.retry_number + 1)
    report(f"another attempt of {context.op_execution_context.op.name} ({reason})", delay)


def forbid_retries(context: Context) -> None:
    """Make Dagster's daemon start this run no second time: it would fail until a person changes something."""
    context.instance.add_run_tags(context.run.run_id, {MAX_RETRIES_TAG: "0"})


@contextmanager
def errors_as_failures(context: Context, source: str = "") -> Iterator[None]:
    """Turn an error that is no bug into a failed step with its message, retried only if the error is transient.

    An interruption ends the run.
    """
    try:
        with ending_when_interrupted(context):
            yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as raised:
        # Broad, since errors of drivers and of the system have no common base class; a bug keeps its traceback.
        error = raised if isinstance(raised, RagError) else as_rag_error(raised)
        if error is None:
            raise
        if not error.transient:
            forbid_retries(context)
        step = StepError(source, context.op_execution_context.op.name, error)
        metadata: dict[str, Any] = {
            "what to do": step.next_step,
            "error": type(error).__name__,
            "docs": documentation("how-to/troubleshoot.md"),
        }
        if source:
            metadata["source"] = source
        if retry := may_retry(context, error):
            report_retry(context, error)
        raise dg.Failure(str(error), metadata=metadata, allow_retries=retry) from raised


# Partitions that failed in an earlier step ---------------------------------------------------------------------------


@dataclass
class _LeftOut:
    """What a run leaves out: partition -> error. `reported`: the partitions for which a step has failed for good.

    `at_the_end`: errors of partitions that go on: a part of them waits for a person.
    """

    errors: dict[str, StepError] = field(default_factory=dict)
    at_the_end: dict[str, StepError] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)


#: By run. All steps of a run are executed in one process; a process executes few runs.
_left_out: dict[str, _LeftOut] = {}
_RUNS = 100


def earlier_errors(context: dg.AssetExecutionContext) -> Mapping[str, StepError]:
    """Return the partitions that failed in an earlier step of this run, and why."""
    return _of_run(context.run.run_id).errors


def errors_of_run(run_id: str) -> Mapping[str, StepError]:
    """Return the partitions for which a run in this process failed, and why."""
    of_run = _of_run(run_id)
    return {**of_run.at_the_end, **of_run.errors}


def _of_run(run_id: str) -> _LeftOut:
    return _left_out.get(run_id) or _LeftOut()


def leave_out(context: Context, errors: Sequence[StepError]) -> None:
    """Make the later steps of this run leave these partitions out."""
    if errors:
        _remember(context).errors |= {item.partition: item for item in errors}


def fail_at_the_end(context: Context, error: StepError) -> None:
    """Make one of the last steps of this run fail for a partition that goes on until then."""
    _remember(context).at_the_end[error.partition] = error


def _remember(context: Context) -> _LeftOut:
    while len(_left_out) >= _RUNS and context.run.run_id not in _left_out:
        del _left_out[next(iter(_left_out))]
    return _left_out.setdefault(context.run.run_id, _LeftOut())


def errors_to_report(context: dg.AssetExecutionContext) -> list[StepError]:
    """Return the errors for which this step must fail, for good, at its end. Each is returned once.

    None if a later step will fail for them: in a step that fails, the checks of its asset and the steps below do not
    run.
    """
    of_run = _left_out.get(context.run.run_id)
    if of_run is None or context.asset_key.to_user_string() not in last_assets(context):
        return []
    errors = errors_of_run(context.run.run_id)
    due = [item for key, item in errors.items() if key not in of_run.reported]
    of_run.reported |= {item.partition for item in due}
    return due
