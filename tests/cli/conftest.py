"""The deployment of a module: the session's servers, emptied. `rag up` needs five seconds for new ones.

A module that stops its servers or needs other settings has fixtures of these names itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rag import Rag, emptied


@pytest.fixture(scope="session")
def running_home(home: Path, postgres_url: str, milvus_uri: str) -> Path:
    """The folder of the session's servers, which run."""
    return home


@pytest.fixture(scope="module")
def rag(running_home: Path) -> Iterator[Rag]:
    with emptied(running_home) as rag:
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
