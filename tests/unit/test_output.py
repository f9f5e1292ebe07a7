"""The output of commands: layout on narrow terminals, JSON documents, exit codes; and errors that are no bugs."""

from __future__ import annotations

import errno
import io
import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import sqlalchemy.exc
import typer
from rich.cells import cell_len
from rich.console import Console

from rag_assets.cli import output
from rag_assets.cli.exit_codes import EXIT_CODES, ExitCode, exit_code
from rag_assets.cli.interruptions import interruptible
from rag_assets.cli.layout import plural
from rag_assets.pipeline import progress
from resources import errors
from resources.errors import ConfigError, RagError, StoreUnavailable
from resources.library_errors import as_rag_error

AT = datetime(2026, 11, 30, 2, 25, 19, tzinfo=UTC)
CHECK = "dense_alias_points_to_current_model"
ROWS = [
    ("docs", CHECK, True, ["dense", "sparse"], AT, "n1docs: 1 row is missing, the others agree."),
    ("日本語のとても長い名前のフォルダ", "statuses_agree", False, [], None, "fine"),
]


def printed(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    monkeypatch.setattr(output, "out", console)
    output.table("Checks", ("source", "check", "passed", "kinds", "at", "finding"), ROWS)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_word_is_broken_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = printed(monkeypatch, width)
    assert max(map(cell_len, lines)) <= max(width, cell_len(CHECK) + 12)
    words = {word for line in lines for word in line.split()}
    assert {CHECK, "statuses_agree", "yes", "no", "2026-11-30", ROWS[1][0]} <= words
    assert "dense, sparse" in "\n".join(lines)
    assert "True" not in words and "None" not in words


def test_a_table_that_does_not_fit_becomes_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, 200)[1].split() == [
        "source",
        "check",
        "passed",
        "kinds",
        "at",
        "finding",
    ]
    narrow = printed(monkeypatch, 80)
    assert narrow[1:3] == ["docs", f"  check    {CHECK}"]
    # An empty value has no line.
    assert narrow[-4:] == [ROWS[1][0], "  check    statuses_agree", "  passed   no", "  finding  fine"]  # fmt: skip


def test_numbers_agree_with_their_nouns() -> None:
    assert plural(1, "document") == "1 document"
    assert plural(0, "query", "queries") == "0 queries"


def test_a_json_document_has_a_schema_and_iso_times(capsys: pytest.CaptureFixture[str]) -> None:
    identity = UUID("00000000-0000-0000-0000-000000000001")
    output.print_json({"at": AT, "id": identity, "kinds": frozenset({"sparse", "dense"})})
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "at": "2026-11-30T02:25:19+00:00",
        "id": str(identity),
        "kinds": ["dense", "sparse"],
    }


def test_every_error_has_an_exit_code_and_wrong_input_is_not_a_failed_check() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert set(EXIT_CODES) <= kinds
    assert exit_code(ConfigError("x")) == 2
    assert exit_code(StoreUnavailable("x")) == 4
    assert exit_code(errors.DeletionGuard("x")) == 1
    # Whatever goes away without action is worth another try. A search without its reranker does not fail.
    transient = {kind for kind in kinds if issubclass(kind, RagError) and kind.transient}
    others = {errors.EmbedderDied, errors.RerankerFailed}
    assert {exit_code(kind("x")) for kind in transient - others} == {4}
    assert exit_code(KeyError("x")) == ExitCode.INTERNAL_ERROR


def run_failing(error: Exception, *, as_json: bool) -> int:
    @output.command
    def failing(as_json: bool = False) -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        failing(as_json=as_json)
    return ended.value.exit_code


def test_an_error_is_a_message_and_with_json_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_failing(ConfigError("No source is named 'x'."), as_json=False) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "error: No source is named 'x'.\n")
    assert run_failing(ConfigError("No source is named 'x'."), as_json=True) == 2
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "error": {"type": "ConfigError", "message": "No source is named 'x'.", "exit_code": 2},
    }


def test_a_bug_is_one_line_and_its_traceback_is_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAG_HOME", str(tmp_path))
    assert run_failing(KeyError("surprise"), as_json=False) == 70
    message = capsys.readouterr().err
    log = tmp_path / "logs" / "errors.log"
    assert message.startswith("error: unexpected KeyError: 'surprise'") and str(log) in message
    assert "Traceback" not in message
    assert "Traceback" in log.read_text() and "in failing" in log.read_text()


def test_mishaps_of_the_system_are_no_bugs() -> None:
    full = as_rag_error(OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    assert full is not None and exit_code(full) == 4
    assert "The disk is full: /data/x" in str(full)
    refused = as_rag_error(PermissionError(errno.EACCES, "Permission denied", "/root/settings.env"))
    assert refused is not None and exit_code(refused) == 2
    assert "/root/settings.env cannot be read or written: Permission denied" in str(refused)
    full = as_rag_error(psycopg.errors.DiskFull("could not extend file\nHINT:  Check free disk."))
    assert full is not None and exit_code(full) == 4
    assert "PostgreSQL's disk is full: could not extend file HINT: Check free disk." in str(full)
    # As Dagster raises it.
    driver = psycopg.OperationalError("server closed the connection unexpectedly")
    wrapped = sqlalchemy.exc.OperationalError("INSERT INTO event_logs", {}, driver)
    away = as_rag_error(wrapped)
    assert away is not None and exit_code(away) == 4
    assert "PostgreSQL went away: server closed" in str(away) and "INSERT" not in str(away)
    # As a role without rights meets them: at a migration, and at any statement.
    denied = psycopg.errors.InsufficientPrivilege("permission denied for schema public")
    for error in (denied, sqlalchemy.exc.ProgrammingError("CREATE TABLE x", {}, denied)):
        shown = as_rag_error(error)
        assert shown is not None and exit_code(shown) == 2
        assert "permission denied for schema public" in str(shown)
        assert "GRANT CREATE ON DATABASE" in str(shown) and "CREATE TABLE" not in str(shown)
    read_only = psycopg.errors.ReadOnlySqlTransaction("cannot execute CREATE TABLE")
    shown = as_rag_error(sqlalchemy.exc.InternalError("CREATE TABLE x", {}, read_only))
    assert shown is not None and exit_code(shown) == 2 and "replica" in str(shown)
    assert as_rag_error(psycopg.errors.UndefinedTable("no table")) is None
    assert as_rag_error(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_ends_a_command_lets_it_clean_up(number: signal.Signals) -> None:
    """Also SIGINT where a script made it ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(number)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_a_terminal_a_long_command_prints_its_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(output, "err", console)
    # A command that ran before may have been quiet.
    monkeypatch.setattr(output, "_verbosity", output._Verbosity.NORMAL)
    with output.progress_lines():
        for done in range(1, 1001):
            progress.report("written", "rows", done, 1000)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines == ["rows: written 1 of 1,000", "rows: written 1,000 of 1,000"]
