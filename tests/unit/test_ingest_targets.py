"""The arguments of `rag ingest`: which source each folder, file and name stands for, and which are refused."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from rag_assets.operations.ingest_targets import NewSourceOptions, resolve_targets
from resources.errors import ConfigError
from resources.postgres.registry.sources import SourceRow


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "docs/a.md",
        "docs/sub/b.md",
        "docs/drafts/c.md",
        "guides/reset.md",
        "guides/x.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "faq.jsonl").write_text('{"id": 1, "answer": "At nine."}\n')
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    return tmp_path


def row(name: str, path: Path, **config: Any) -> SourceRow:
    return SourceRow(uuid.uuid4(), "folder", name, {"path": str(path), **config}, None, True)


def resolved(
    rows: list[SourceRow], *targets: Path | str, **options: Any
) -> dict[str, tuple[bool, Any, str]]:
    """Return name -> (is new, new configuration, remark)."""
    found = resolve_targets([str(target) for target in targets], rows, NewSourceOptions(**options))
    return {
        target.name: (target.is_new, target.config and dict(target.config), target.remark)
        for target in found
    }


def refused(rows: list[SourceRow], *targets: Path | str, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        resolved(rows, *targets, **options)
    return str(error.value)


def test_a_folder_is_its_source_and_a_new_one_is_named_after_it(tree: Path) -> None:
    assert resolved([], tree / "docs") == {"docs": (True, {"path": str(tree / "docs")}, "")}
    handbook = row("handbook", tree / "docs")
    assert resolved([handbook], tree / "docs", tree / "guides" / ".." / "docs", "handbook") == {
        "handbook": (False, None, "")
    }
    assert resolved([handbook], tree / "docs", name="again")["again"][0]
    assert "rag sources change handbook" in refused([handbook], tree / "docs", language="ja")


def test_a_part_of_a_source_is_not_registered_twice(tree: Path) -> None:
    docs = row("docs", tree / "docs", exclude=["drafts/**"])
    for part in (tree / "docs" / "sub", tree / "docs" / "sub" / "b.md"):
        (item,) = resolved([docs], part).items()
        assert item[0] == "docs" and not item[1][0]
        assert f"rag ingest {part} --name NAME" in item[1][2]
        assert resolved([docs], part, name="mine")["mine"][0]
        assert "--name NAME" in refused([docs], part, language="ja")
    # What the source leaves out is no part of it.
    assert resolved([docs], tree / "docs" / "drafts")["drafts"][0]
    assert resolved([docs], tree / "docs" / "drafts" / "c.md")["drafts"][0]
    # The other way round it is remarked.
    assert "found twice" in resolved([row("sub", tree / "docs" / "sub")], tree / "docs")["docs"][2]


def test_files_of_a_folder_become_one_source_that_includes_them(tree: Path) -> None:
    guides = tree / "guides"
    new = resolved([], guides / "reset.md", guides / "x.md", tree / "faq.jsonl")
    config = {"path": str(guides), "include": ["/reset.md", "/x.md"]}
    assert new["guides"][:2] == (True, config)
    assert new["faq"][1] == {"path": str(tree / "faq.jsonl"), "key": "id", "text": "answer"}
    single = row("guides", guides, include=["/reset.md"])
    assert resolved([single], guides / "reset.md") == {"guides": (False, None, "")}
    assert resolved([single], guides / "x.md") == {"guides": (False, config, "")}
    assert "--unset include" in resolved([single], guides)["guides"][2]
    left_out = row("guides", guides, exclude=["x.md"])
    assert "left out by the settings" in refused([left_out], guides / "x.md")


def test_all_problems_are_reported_with_commands_that_work(tree: Path) -> None:
    docs = row("docs", tree / "docs")
    message = refused(
        [docs], "doc", tree / "none", "https://ex.org/a", tree / "odd.csv", name="bad/name"
    )
    for part in (
        "There is no source 'doc'; known: docs. Perhaps: docs",
        f"{tree / 'none'} is not a folder or a file",
        "rag sources add NAME URL",
        "--set text=COLUMN",
        "'bad/name' cannot name a source",
        "such as bad-name",
    ):
        assert part in message
    assert "'docs' reads" in refused([docs], tree / "guides", name="docs")
    assert "with --name" in refused([], tree / "docs", tree / "guides", name="one")
