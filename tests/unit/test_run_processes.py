"""The tags of a run that the command line starts: they name the command, without values, and hide the process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from dagster._core.storage.tags import TagType, get_tag_type

from rag_assets.cli.main import app
from resources.run_processes import (
    COMMAND_GROUPS,
    COMMAND_TAG,
    COMMANDS,
    FLAGS,
    HIDDEN_OPTIONS,
    SHOWN_OPTIONS,
    own_command_tags,
    own_run_tags,
)


def test_a_run_names_its_command_without_its_texts_and_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for argv, command in (
        (["/venv/bin/rag", "repair", "--dry-run"], "repair --dry-run"),
        (["rag", "-v", "rebuild", "milvus", "--source=my docs"], "-v rebuild milvus --source 'my docs'"),
        (["rag", "forget", "--source", "docs", "--key", "ada.md", "-y"], "forget --source docs --key … -y"),
        # The value of an option may look like an option or a command.
        (["rag", "forget", "--key", "--source", "--document=--json"], "forget --key … --document …"),
        (["rag", "ingest", "ada.md", "forget", "--name", "docs"], "ingest … --name docs"),
        (["rag", "ingest", "--", "--name", "ada.md"], "ingest …"),
        (["rag", "ingest", *map(str, range(1000))], "ingest …"),
        (["rag", "repair", "--source", "https://ada:hush@ex.org/"], "repair --source 'https://ada:***@ex.org/'"),
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", argv)
        assert own_command_tags() == {COMMAND_TAG: command}
    monkeypatch.setattr(sys, "argv", ["rag", "repair", "--source", "a" * 1000])
    assert len(own_command_tags()[COMMAND_TAG]) == 201
    monkeypatch.setattr(sys, "argv", ["/venv/bin/dagster", "dev"])
    assert own_command_tags() == {}


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with its name."""
    for word, subcommand in getattr(command, "commands", {}).items():
        yield from commands(subcommand, f"{name} {word}".strip())
    if not hasattr(command, "commands"):
        yield name, command


def test_no_command_shows_a_value_other_than_the_name_of_a_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, flags, options = set(), set(), set()
    for name, command in commands(typer.main.get_command(app)):
        names.add(name)
        for parameter in command.params:
            is_option = parameter.param_type_name == "option"
            if is_option:
                (flags if parameter.is_flag else options).update(parameter.opts)
            for option in parameter.opts if is_option else [""]:
                given = [*name.split(), *option.split(), "ada.md", "--json"]
                monkeypatch.setattr(sys, "argv", ["rag", *given])
                shown = own_command_tags()[COMMAND_TAG]
                assert shown.startswith(name) and shown.endswith(" --json"), shown
                assert ("ada.md" in shown) == (option in ("--source", "--name")), shown
    groups = {f"{group} {word}" for group, words in COMMAND_GROUPS.items() for word in words}
    assert names == COMMANDS | groups
    # Else the value of an option could be taken for the next argument, or the reverse.
    assert FLAGS - flags == FLAGS & options == set()
    assert (SHOWN_OPTIONS | HIDDEN_OPTIONS) - options == set()
    assert (SHOWN_OPTIONS | HIDDEN_OPTIONS) & flags == set()


def test_the_tags_of_the_process_are_hidden_in_the_list_of_runs() -> None:
    assert {get_tag_type(tag) for tag in own_run_tags("run")} == {TagType.HIDDEN}
    assert get_tag_type(COMMAND_TAG) == TagType.USER_PROVIDED
