"""What all commands of `rag` have in common: their options, the version, errors of options, warnings. No servers."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rag_assets.cli import output
from rag_assets.cli.commands import COMMANDS, PERMISSIONS
from rag_assets.cli.confirmation import confirm
from rag_assets.cli.main import app, main
from rag_assets.settings import unknown_variables
from rag_assets.settings.load import Settings
from resources import waiting
from resources.errors import ConfigError

#: These show pages and answers to people.
WITHOUT_JSON = {"ui", "serve", "demo"}


def test_every_command_declares_its_permission() -> None:
    assert set(PERMISSIONS) == set(COMMANDS)


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with its name."""
    subcommands = getattr(command, "commands", {})
    for name, subcommand in subcommands.items():
        yield from commands(subcommand, f"{path} {name}".strip())
    if not subcommands:
        yield path, command


@pytest.fixture
def rag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Any]:
    """Run a command in this process. Returns its exit code, its output and its errors."""
    monkeypatch.setenv("RAG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    unknown_variables._warn.cache_clear()
    log = logging.getLogger("rag_assets.settings")
    handlers, propagate = log.handlers, log.propagate

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rag", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    yield run
    log.handlers, log.propagate = handlers, propagate
    waiting.listen(None)


def test_every_command_takes_the_common_options() -> None:
    options = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in commands(typer.main.get_command(app))
    }
    assert len(options) > 30
    assert {name for name in options if not {"-v", "-q"} <= options[name]} == set()
    assert {name for name in options if "--json" not in options[name]} == WITHOUT_JSON


def test_help_cuts_no_name_of_an_option_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name, command in commands(typer.main.get_command(app)):
        command.get_help(command.make_context(name, [], resilient_parsing=True))
        shown = capsys.readouterr().out
        visible = [item for item in command.params if not getattr(item, "hidden", False)]
        options = [option for parameter in visible for option in parameter.opts]
        assert [
            option for option in options if option.startswith("--") and option not in shown
        ] == []


def test_quiet_commands_print_neither_hints_nor_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for verbosity, shown in ((output._Verbosity.QUIET, ""), (output._Verbosity.NORMAL, "text\n")):
        monkeypatch.setattr(output, "_verbosity", verbosity)
        output.note("text")
        output.remark("text")
        assert capsys.readouterr() == (shown, shown)


def test_the_version_names_what_a_bug_report_needs(rag: Any) -> None:
    code, output, _ = rag("--version")
    assert code == 0
    parts = {line.split()[0]: line.split(maxsplit=1)[1] for line in output.splitlines()}
    assert set(parts) >= {"rag-assets", "python", "platform", "dagster", "pymilvus", "milvus-lite"}


def test_a_wrong_option_is_an_object_with_json(rag: Any) -> None:
    code, output, errors = rag("check", "--sauce", "x", "--json")
    assert code == 2
    assert json.loads(output)["error"]["exit_code"] == 2
    assert "No such option: --sauce" in json.loads(output)["error"]["message"]
    assert "No such option: --sauce" in errors
    code, output, errors = rag("check", "--sauce", "x")
    assert (code, output) == (2, "") and "--sauce" in errors


def test_settings_are_shown_and_unknown_variables_are_named_once(
    rag: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAG_MILVUS_TOKEN", "hush")
    monkeypatch.setenv("RAG_POSTGRES_URI", "postgresql://hush@host/x")
    code, output, errors = rag("settings", "milvus")
    assert code == 0 and "hush" not in output + errors
    assert "RAG_MILVUS_TOKEN = ***  environment; default: empty" in output
    meaning = Settings.model_fields["milvus_timeout"].description or ""
    assert meaning in " ".join(output.split())
    assert str(tmp_path / "settings.env") in output
    assert errors.count("RAG_POSTGRES_URI") == 1 and "Did you mean RAG_POSTGRES_URL?" in errors
    code, output, _ = rag("-q", "settings", "milvus_token", "--json")
    (entry,) = json.loads(output)["settings"]
    assert (entry["name"], entry["value"]) == ("RAG_MILVUS_TOKEN", "***")
    assert rag("settings", "nothing")[0] == 2


def test_a_recommendation_that_fails_is_one_document_with_json(rag: Any) -> None:
    needs = ("index", "recommend", "--rows", "1000000000", "--memory", "1GiB")
    code, output, errors = rag(*needs, "--json")
    assert code == 2 and "No index meets all requirements" in errors
    document = json.loads(output)
    assert document["recommended"] is None and document["options"]
    code, output, errors = rag(*needs)
    assert code == 2 and "table shows why" in errors


@pytest.mark.parametrize("stdin", [None, io.StringIO("y\n")])
def test_without_a_terminal_a_question_is_an_error_with_the_command(
    rag: Any, monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(ConfigError, match=r"rag forget 'a b' --yes$"):
        confirm("Sure?", ("forget", "a b"), yes=False, as_json=False)
    with pytest.raises(ConfigError, match=r"rag forget x --yes --json$"):
        confirm("Sure?", ("forget", "x"), yes=False, as_json=True)
    confirm("Sure?", ("forget", "x"), yes=True, as_json=True)
    code, _, errors = rag("sources", "add", "w", "https://ex.org/", "--credential", "token")
    assert code == 2 and "--credential token=@VARIABLE" in errors
