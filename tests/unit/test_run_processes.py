"""The tags of a run that the command line starts: they name the command, without secrets, and hide the process."""

from __future__ import annotations

import sys

import pytest
from dagster._core.storage.tags import TagType, get_tag_type

from resources.run_processes import COMMAND_TAG, own_command_tags, own_run_tags


def test_a_run_names_its_command_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for argv, command in (
        (["/venv/bin/rag", "repair", "--dry-run"], "repair --dry-run"),
        (["rag", "ingest", "my docs"], "ingest 'my docs'"),
        (["rag", "ingest", "https://ada:hush@ex.org/"], "ingest 'https://ada:***@ex.org/'"),
    ):
        monkeypatch.setattr(sys, "argv", argv)
        assert own_command_tags() == {COMMAND_TAG: command}
    monkeypatch.setattr(sys, "argv", ["rag", "ingest", *map(str, range(1000))])
    assert len(own_command_tags()[COMMAND_TAG]) == 201
    monkeypatch.setattr(sys, "argv", ["/venv/bin/dagster", "dev"])
    assert own_command_tags() == {}


def test_the_tags_of_the_process_are_hidden_in_the_list_of_runs() -> None:
    assert {get_tag_type(tag) for tag in own_run_tags("run")} == {TagType.HIDDEN}
    assert get_tag_type(COMMAND_TAG) == TagType.USER_PROVIDED
