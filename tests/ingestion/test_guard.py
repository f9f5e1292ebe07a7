"""A source that suddenly lists far fewer documents is not emptied until a person accepts the deletions."""

from __future__ import annotations

import shutil

import dagster as dg
import pytest

from rag_assets.ingestion.fetch import check_deletions
from rag_assets.pipeline.limits import DeletionLimits
from resources.errors import DeletionGuard
from tests.support.oracle import disagreements
from tests.support.world import World

ACCEPT = {"source_documents": {"accept_deletions": True}}


@pytest.mark.parametrize(
    ("listed", "gone", "recorded", "stops"),
    [
        # Lists nothing; never listed anything.
        (0, 1, 1, True),
        (0, 0, 0, False),
        # Not more than 20 documents; more.
        (80, 20, 100, False),
        (79, 21, 100, True),
        # Not more than a fifth; more.
        (895, 105, 1000, False),
        (10, 201, 1000, True),
        # All renamed: as many as before, but others.
        (1000, 900, 1000, True),
    ],
)
def test_the_guard_stops_at_its_limits(listed: int, gone: int, recorded: int, stops: bool) -> None:
    limits = DeletionLimits()
    if stops:
        with pytest.raises(
            DeletionGuard, match=rf"{gone} of the {recorded}.*rag ingest docs --accept-deletions"
        ):
            check_deletions("docs", limits, listed, gone, recorded)
    else:
        check_deletions("docs", limits, listed, gone, recorded)


def test_an_emptied_folder_deletes_nothing_until_a_person_accepts_it(world: World) -> None:
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
    assert len(world.search("tower", k=10)) == 5

    world.run("sync_source", ops=ACCEPT)
    assert world.one("SELECT count(*) FROM documents") == 0
    assert world.one("SELECT sync_status FROM sources") == "completed"
    assert disagreements(world.settings.postgres_url, world.settings.milvus_uri) == []


def test_a_missing_folder_is_not_an_empty_one(world: World) -> None:
    root = world.write({"a.md": "# A\n\nThe only document of this source.\n"})
    world.add()
    world.sync()
    shutil.rmtree(root)
    with pytest.raises(dg.Failure, match="not a readable folder"):
        world.run("sync_source", ops=ACCEPT)
    assert world.one("SELECT count(*) FROM documents") == 1
