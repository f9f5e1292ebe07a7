"""One stack for each module, in a home folder whose path is long and contains spaces and non-Latin scripts.

A module that needs another stack has fixtures of these names itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rag import Rag, deployment

HOME = "ein langer Pfad mit Leerzeichen/" + "天文台のとても長い名前のフォルダ" * 4 + "/کاشانه"


@pytest.fixture(scope="module")
def rag() -> Iterator[Rag]:
    with deployment(HOME) as rag:
        rag.ok("up")
        yield rag


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files") / "docs"
    root.mkdir()
    (root / "hours.md").write_text(
        "# Opening hours\n\nThe observatory opens at nine in the morning and closes at ten at night.\n"
    )
    (root / "時間.md").write_text(
        "# 開館時間\n\n天文台は午前九時に開館し、夜十時に閉館します。月曜日は休館日です。\n"
    )
    (root / "empty.md").write_text("")
    return root


@pytest.fixture(scope="module")
def report(rag: Rag, docs: Path) -> dict[str, Any]:
    """The report of the first ingest of `docs`."""
    (report,) = rag.json("ingest", str(docs))["sources"]
    return report
