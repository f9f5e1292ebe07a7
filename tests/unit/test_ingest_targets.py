"""The arguments of `rag ingest`: which source each folder, file and name stands for, and which are refused."""

from __future__ import annotations

import unicodedata
import uuid
from pathlib import Path
from typing import Any

import pytest

from rag_assets.operations.ingest_messages import nothing_found
from rag_assets.operations.ingest_targets import NewSourceOptions, resolve_targets
from rag_assets.operations.source_specs import column_problems
from resources.errors import ConfigError
from resources.postgres.registry.sources import SourceRow
from resources.sources.registry import open_source


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


def test_a_file_that_is_added_to_a_source_of_single_files_is_read(tree: Path) -> None:
    guides = tree / "guides"
    hidden, accent = guides / ".hid.md", guides / unicodedata.normalize("NFD", "café.md")
    for path in (hidden, accent):
        path.write_text("text")
    single = row("guides", guides, include=["/reset.md"])
    for path in (hidden, accent):
        ((_, config, _),) = resolved([single], path).values()
        listed = {entry.key for entry in open_source("folder", config).list()}
        assert listed == {"reset.md", unicodedata.normalize("NFC", path.name)}
    excluding = row("guides", guides, include=["/reset.md"], exclude=["x.md"])
    message = refused([excluding], guides / "x.md", hidden)
    assert "x.md: left out by the settings of source guides" in message
    assert ".hid.md" not in message
    # The remark about the folder names the file that the same call adds.
    remark = resolved([single], guides, guides / "x.md")["guides"][2]
    assert "reads only reset.md, x.md" in remark


def test_options_for_new_sources_are_refused_for_registered_ones(tree: Path) -> None:
    guides, faq = tree / "guides", tree / "faq.jsonl"
    handbook = row("handbook", tree / "docs", language="en")
    single = row("guides", guides, include=["/reset.md"])
    rows = SourceRow(uuid.uuid4(), "jsonl", "faq", {"path": str(faq)}, None, True)
    registered = {
        "handbook": "handbook",
        tree / "docs": "handbook",
        faq: "faq",
        guides / "reset.md": "guides",
        guides / "x.md": "guides",
    }
    for target, name in registered.items():
        message = refused([handbook, single, rows], target, exclude=["*.tmp"], language="ja")
        assert "--exclude, --language: only for new sources" in message
        command = f"rag sources change {name} --exclude '*.tmp' --set language=ja"
        assert message.endswith(command)
    # Nothing is ignored if the source has these settings.
    assert resolved([handbook], "handbook", language="en") == {"handbook": (False, None, "")}
    assert "--name: only for new sources" in refused([handbook], "handbook", name="other")
    assert resolved([handbook], "handbook", name="handbook") == {"handbook": (False, None, "")}
    assert resolved([rows], faq, name="faq") == {"faq": (False, None, "")}


def test_the_source_of_a_whole_folder_comes_before_sources_of_single_files(tree: Path) -> None:
    guides = tree / "guides"
    single = row("a", guides, include=["/reset.md"])
    whole = row("whole", guides)
    assert resolved([single, whole], guides) == {"whole": (False, None, "")}
    assert "reads only reset.md" in resolved([single, whole], guides, name="a")["a"][2]
    (item,) = resolved([whole], guides / "x.md", name="whole").items()
    assert item[0] == "whole" and "is a part of source whole" in item[1][2]


def test_targets_of_one_call_that_overlap_become_one_source(tree: Path) -> None:
    docs, sub, file = tree / "docs", tree / "docs" / "sub", tree / "docs" / "a.md"
    for targets in ((docs, sub), (sub, docs), (docs, file), (file, docs)):
        for options in ({}, {"name": "one"}, {"language": "en"}):
            ((name, (is_new, config, remark)),) = resolved([], *targets, **options).items()
            assert (name, is_new, config["path"]) == (options.get("name", "docs"), True, str(docs))
            part = next(target for target in targets if target != docs)
            assert f"{part} is a part of source {name}" in remark
    assert resolved([], docs, sub / "..")["docs"] == (True, {"path": str(docs)}, "")
    assert list(resolved([], tree / "faq.jsonl", tree / "docs" / ".." / "faq.jsonl")) == ["faq"]
    # What the new source leaves out is no part of it.
    both = resolved([], sub, docs, exclude=["sub/**"])
    assert {name: found[2] for name, found in both.items()} == {"docs": "", "sub": ""}
    assert "a.md: left out by the settings" in refused([], docs, file, exclude=["a.md"])
    more = resolved([], docs, file, include=["/b.md"])["docs"]
    assert more[:2] == (True, {"path": str(docs), "include": ["/b.md", "/a.md"]})


def test_what_is_gone_is_named_with_its_source(tree: Path) -> None:
    gone, docs = row("old", tree / "moved"), row("docs", tree / "docs")
    for target in (tree / "moved", tree / "moved" / "sub" / "a.md"):
        message = refused([gone, docs], target)
        assert f"{target} is gone, or not mounted; source old reads {tree / 'moved'}" in message
        assert "rag sources change old --set path=NEW" in message
        assert message.endswith("rag sources remove old")
    assert refused([docs], tree / "docs" / "none.md").endswith(": rag ingest docs")
    rows = SourceRow(uuid.uuid4(), "csv", "faq", {"path": str(tree / "faq.csv")}, None, True)
    assert "source faq reads" in refused([rows], tree / "faq.csv")


def test_columns_that_share_a_name_are_refused_before_the_source_is_registered(tree: Path) -> None:
    file = tree / "twice.csv"
    file.write_text("id,text,text\n1,a,b\n")
    assert f"{file} has the column 'text' 2 times" in refused([], file)
    config = {"path": str(file), "text": "text"}
    assert len(column_problems("csv", config)) == 1
    assert column_problems("csv", {**config, "text": "id"}) == []
    # A file that comes later, and one in a store, are not read.
    assert column_problems("csv", {**config, "path": str(tree / "later.csv")}) == []
    assert column_problems("csv", {**config, "path": "s3://bucket/a.csv"}) == []


def test_a_source_without_documents_says_what_decides(tree: Path) -> None:
    hint = nothing_found(row("docs", tree))
    assert hint.startswith(f"docs: nothing was found in {tree}: it has no files, or only hidden")
    assert "globs" not in hint and "rag sources change docs --set hidden=true" in hint
    hint = nothing_found(row("docs", tree, include=["*.md"], hidden=True))
    assert "its include globs leave everything out" in hint and "hidden" not in hint


def test_all_problems_are_reported_with_commands_that_work(tree: Path) -> None:
    docs = row("docs", tree / "docs")
    message = refused(
        [docs], "doc", tree / "none", "https://ex.org/a", tree / "odd.csv", name="bad/name"
    )
    for part in (
        "There is no source 'doc'; known: docs. Perhaps: docs",
        f"{tree / 'none'} does not exist. There is no source",
        "rag sources add NAME URL",
        "--set text=COLUMN",
        "'bad/name' cannot name a source",
        "such as bad-name",
    ):
        assert part in message
    assert "'docs' reads" in refused([docs], tree / "guides", name="docs")
    assert "with --name" in refused([], tree / "docs", tree / "guides", name="one")
