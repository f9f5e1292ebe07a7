"""The end of a step whose run a person ended, or whose process was told to stop: no other step of the run begins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from rag_assets.dagster_internals import DagsterExecutionInterruptedError, RunInterrupted
from resources.run_processes import COMMAND_TAG

Context = dg.AssetExecutionContext | dg.OpExecutionContext | dg.AssetCheckExecutionContext

_ENDING = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)

#: Set by Ctrl-C or SIGTERM: steps of this process that have not begun do not begin.
_interrupted = threading.Event()


def is_interrupted() -> bool:
    """Return whether this process was told to stop."""
    return _interrupted.is_set()


def end_if_canceled(context: Context) -> None:
    """Raise RunInterrupted if the run was ended elsewhere.

    A process never learns of that from Dagster if the code server that started it is gone.
    """
    if _interrupted.is_set() or is_canceled(context):
        raise _interruption()


def is_canceled(context: Context) -> bool:
    """Return whether a person ended the run; not, for example, a restart of Dagster."""
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is not None and run.status in _ENDING


@contextmanager
def ending_when_interrupted(context: Context) -> Iterator[None]:
    """Raise RunInterrupted in place of an interruption, which Dagster would take for a failure that a retry may fix."""
    end_if_canceled(context)
    try:
        yield
    except RunInterrupted:
        raise
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        _interrupted.set()
        # Who ends a command ends its run.
        if COMMAND_TAG in context.run.tags:
            context.instance.report_run_canceling(context.run)
        raise _interruption() from None


def _interruption() -> RunInterrupted:
    return RunInterrupted(
        "Interrupted. Committed work is kept; the next sync continues from there."
    )
