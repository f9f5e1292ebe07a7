"""The exit codes of `rag`: one table from error class to code. docs/reference names them for scripts and CI."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from rag_assets.job_runs import AWAY
from resources.errors import (
    ConfigError,
    EmbedderUnavailable,
    Fenced,
    Forbidden,
    NotAuthenticated,
    Overloaded,
    RagError,
    SourceUnavailable,
    StackError,
    StoreUnavailable,
)

if TYPE_CHECKING:
    import dagster as dg


class ExitCode(enum.IntEnum):
    """What the shell gets. A script may read 2 as "change the command", and 4 as "try again later"."""

    OK = 0
    #: The command ran and found a failure: a failed check, a failed sync.
    FAILED = 1
    #: Options, arguments, settings, rights or a file must be changed. Also the code of a wrong option.
    WRONG_INPUT = 2
    #: No check failed, but one could not decide.
    UNDETERMINED = 3
    #: A store or a server cannot be reached, or the wait for a lock ended.
    UNREACHABLE = 4
    #: A bug. Not 1: a pipeline must not take it for a failed check.
    INTERNAL_ERROR = 70


#: Error class -> code. A subclass has its parent's code unless it is listed itself.
EXIT_CODES: dict[type[Exception], ExitCode] = {
    RagError: ExitCode.FAILED,
    ConfigError: ExitCode.WRONG_INPUT,
    StackError: ExitCode.UNREACHABLE,
    StoreUnavailable: ExitCode.UNREACHABLE,
    Overloaded: ExitCode.UNREACHABLE,
    Forbidden: ExitCode.WRONG_INPUT,
    NotAuthenticated: ExitCode.WRONG_INPUT,
    EmbedderUnavailable: ExitCode.UNREACHABLE,
    SourceUnavailable: ExitCode.UNREACHABLE,
    Fenced: ExitCode.UNREACHABLE,
}


def exit_code(error: Exception) -> ExitCode:
    """Return the code of the most specific class of the error that the table lists."""
    return _code_of(type(error))


def _code_of(kind: type) -> ExitCode:
    codes = (EXIT_CODES[base] for base in kind.__mro__ if base in EXIT_CODES)
    return next(codes, ExitCode.INTERNAL_ERROR)


def run_exit_code(*results: dg.ExecuteInProcessResult) -> ExitCode:
    """Return the code of runs whose steps failed: that of their errors if all have the same one, else FAILED."""
    codes = {
        _step_exit_code(event.step_failure_data)
        for result in results
        for event in result.all_events
        if event.is_step_failure
    }
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED


def _step_exit_code(failure: Any) -> ExitCode:
    """Return the code of a failed step. Dagster keeps the names of the classes of its errors, not the errors."""
    by_name = _codes_by_name()
    if failure.user_failure_data is not None and "error" in failure.user_failure_data.metadata:
        name = failure.user_failure_data.metadata["error"].value
        return by_name.get(name, ExitCode.FAILED)
    error = failure.error
    while error is not None:
        if error.cls_name in by_name:
            return by_name[error.cls_name]
        error = error.cause
    return ExitCode.FAILED


def _codes_by_name() -> dict[str, ExitCode]:
    """Return class name -> code of our errors, and of the drivers' errors that mean a lost connection."""
    codes = dict.fromkeys(AWAY, ExitCode.UNREACHABLE)
    kinds: list[type[RagError]] = [RagError]
    while kinds:
        kind = kinds.pop()
        codes[kind.__name__] = _code_of(kind)
        kinds += kind.__subclasses__()
    return codes
