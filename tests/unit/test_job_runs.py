"""Failed steps as Dagster keeps them, by the names of classes: a sentence and an exit code for each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rag_assets.cli.exit_codes import run_exit_code
from rag_assets.job_runs import failures

LINK = "(Background on this error at: https://sqlalche.me/e/20/e3q8)"
AWAY = (
    "sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) server closed the connection unexpectedly\n"
    f"\tThis probably means the server terminated.\n\n[SQL: INSERT INTO event_logs]\n[parameters: {{}}]\n{LINK}"
)


def run_with(cls_name: str, message: str, cause: Any = None) -> Any:
    """The result of a run whose only step raised this error."""
    error = SimpleNamespace(cls_name=cls_name, message=message, cause=cause)
    data = SimpleNamespace(user_failure_data=None, error=error)
    event = SimpleNamespace(is_step_failure=True, step_key="step", step_failure_data=data)
    return SimpleNamespace(all_events=[event])


@pytest.mark.parametrize(
    ("cls_name", "message", "shown", "code"),
    [
        (
            "ConfigError",
            "resources.errors.ConfigError: The key is wrong.\n",
            "The key is wrong.",
            2,
        ),
        ("SourceRemoved", "resources.errors.SourceRemoved: It is gone.", "It is gone.", 2),
        ("StoreUnavailable", "resources.errors.StoreUnavailable: Wait.", "Wait.", 4),
        ("EmbedderDied", "resources.errors.EmbedderDied: It died.", "It died.", 1),
        ("ValueError", "ValueError: x", "ValueError: x", 1),
        (
            "OperationalError",
            AWAY,
            "PostgreSQL went away: server closed the connection unexpectedly This probably means the server "
            "terminated. "
            "Committed work is kept; run the command again.",
            4,
        ),
        (
            "InterfaceError",
            "psycopg2.InterfaceError: connection already closed",
            "PostgreSQL went away: connection already closed. Committed work is kept; run the command again.",
            4,
        ),
    ],
)
def test_a_failed_step_is_a_sentence_with_an_exit_code(
    cls_name: str, message: str, shown: str, code: int
) -> None:
    result = run_with(cls_name, message)
    assert failures(result) == [("step", shown)]
    assert run_exit_code(result) == code
    # Dagster raises its own error from the first one.
    wrapped = run_with(
        "DagsterExecutionStepExecutionError", "…", result.all_events[0].step_failure_data.error
    )
    assert failures(wrapped) == [("step", shown)] and run_exit_code(wrapped) == code
