"""A source that suddenly lists much less is not emptied until a person says so."""

from __future__ import annotations

import shutil

import dagster as dg
import pytest

from rag_assets.assets.source_documents import GuardResource, check_deletions
from resources.errors import DeletionGuard
from tests.conftest import World
from tests.support.oracle import disagreements

ACCEPT = {"source_documents": {"accept_deletions": True}}


@pytest.mark.parametrize(
    ("listed", "gone", "recorded", "stops"),
    [
        (0, 1, 1, True),  # lists nothing
        (0, 0, 0, False),  # never listed anything
        (80, 20, 100, False),  # not more than 20 documents
        (79, 21, 100, True),
        (895, 105, 1000, False),  # not more than a fifth
        (10, 201, 1000, True),
        (1000, 900, 1000, True),  # everything renamed: as many as before, but not the same
    ],
)
def test_the_guard_stops_at_its_limits(listed: int, gone: int, recorded: int, stops: bool) -> None:
    guard = GuardResource()
    if stops:
        with pytest.raises(
            DeletionGuard, match=rf"{gone} of the {recorded}.*rag ingest docs --accept-deletions"
        ):
            check_deletions("docs", guard, listed, gone, recorded)
    else:
        check_deletions("docs", guard, listed, gone, recorded)


def test_an_emptied_folder_deletes_nothing_until_it_is_accepted(world: World) -> None:
    root = world.write(
        {f"{n}.md": f"# Town {n}\n\nThe tower of town {n} has {n * 7} steps.\n" for n in range(5)}
    )
    world.add()
    world.sync()
    for path in root.iterdir():
        path.unlink()
    with pytest.raises(dg.Failure, match="--accept-deletions"):
        world.sync()
    assert world.one("SELECT count(*) FROM documents") == 5
    assert world.one("SELECT sync_status FROM sources") == "failed"
    assert "5 of the 5" in world.one("SELECT last_error FROM sources")
    assert len(world.searcher().search("tower", k=10)) == 5

    world.run("sync_source", ops=ACCEPT)
    assert world.one("SELECT count(*) FROM documents") == 0
    assert world.one("SELECT sync_status FROM sources") == "completed"
    assert disagreements(world.settings.postgres_url, world.settings.milvus_uri) == []


def test_a_folder_that_is_not_there_is_not_an_empty_one(world: World) -> None:
    root = world.write({"a.md": "# A\n\nThe only document of this source.\n"})
    world.add()
    world.sync()
    shutil.rmtree(root)
    with pytest.raises(dg.Failure, match="not a folder"):
        world.run("sync_source", ops=ACCEPT)
    assert world.one("SELECT count(*) FROM documents") == 1
