"""A source that suddenly lists far fewer documents, or gives one content for many, waits until a person accepts it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable

import dagster as dg
import pytest

from rag_assets.cli.exit_codes import ExitCode, run_exit_code
from rag_assets.ingestion.guard import check_deletions
from rag_assets.ingestion.sameness import LARGEST, signature
from rag_assets.job_runs import failures
from rag_assets.pipeline.limits import DeletionLimits
from resources.errors import ContentGuard, DeletionGuard
from resources.postgres.registry.left_documents import list_left
from tests.support.oracle import disagreements
from tests.support.servers import Web
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
    world.fill()
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
    world.fill()
    shutil.rmtree(root)
    with pytest.raises(dg.Failure, match="not a readable folder"):
        world.run("sync_source", ops=ACCEPT)
    assert world.one("SELECT count(*) FROM documents") == 1


# One content for many documents ------------------------------------------------------------------------------------

ACCEPT_CONTENT = {"source_documents": {"accept_replacements": True}}
EXPIRED = "Error: the token of the export job has expired; ask the administrator."


def town(n: int) -> str:
    return f"Town number{n}x has a tower of {n * 7} steps."


@pytest.fixture
def rows(world: World) -> Callable[[list[str]], None]:
    """Return a function that writes the bodies of a source of rows, `rows`."""
    path = world.write({"rows.jsonl": ""}) / "rows.jsonl"

    def write(bodies: list[str]) -> None:
        path.write_text(
            "".join(json.dumps({"id": n, "body": b}) + "\n" for n, b in enumerate(bodies))
        )

    world.register("rows", "jsonl", {"path": str(path), "key": "id", "text": "body"})
    return write


def contents(world: World) -> set[str]:
    return {text for (text,) in world.connection.execute("SELECT content FROM documents")}


def test_documents_that_turn_into_one_content_keep_their_texts_until_a_person_accepts_it(
    world: World, rows: Callable[[list[str]], None]
) -> None:
    towns = [town(n) for n in range(30)]
    rows(towns)
    world.fill("rows")
    # Others change, come and go meanwhile.
    rows([EXPIRED] * 25 + [town(n + 100) for n in range(25, 29)])
    taken_up = {*towns[:25], *(town(n + 100) for n in range(25, 29))}
    for count in (1, 2):
        result = world.run("sync_source", "rows", raise_on_error=False)
        ((_, message),) = failures(result)
        assert re.search("25 of the (30|29) .*token of the export.*rows --accept-repl", message)
        assert run_exit_code(result) == ExitCode.FAILED
        assert contents(world) == taken_up
        assert world.one("SELECT count(*) FROM documents WHERE indexing_status <> 'completed'") == 0
        state = world.connection.execute("SELECT sync_status, error_count, last_error FROM sources")
        assert state.fetchone() == ("failed", count, message.removeprefix("rows: "))
    left = list_left(world.connection, 100)
    assert len(left) == 25 and left[0].key == "0" and "--accept-replacements" in left[0].reason
    # The former contents are back: nothing is left to do.
    embeddings = world.one("SELECT count(*) FROM embeddings")
    rows([*towns[:25], *(town(n + 100) for n in range(25, 29))])
    world.fill("rows")
    assert contents(world) == taken_up
    assert world.one("SELECT count(*) FROM embeddings") == embeddings
    assert list_left(world.connection, 100) == []
    assert world.one("SELECT held_back IS NULL FROM sources")

    rows([EXPIRED] * 29)
    world.run("sync_source", "rows", ops=ACCEPT_CONTENT)
    assert contents(world) == {EXPIRED}
    assert world.one("SELECT sync_status FROM sources") == "completed"
    # All of them were equal before, too.
    rows(["The export is under maintenance."] * 29)
    world.fill("rows")
    assert len(contents(world)) == 1


def test_few_documents_of_one_content_and_changed_numbers_are_replaced(
    world: World, rows: Callable[[list[str]], None]
) -> None:
    rows([f"Hall {n}: 12.5 degrees at 09:{n:02}." for n in range(30)])
    world.fill("rows")
    rows([f"Hall {n}: 13.7 degrees at 10:{n:02}." for n in range(30)])
    world.fill("rows")
    assert "Hall 3: 13.7 degrees at 10:03." in contents(world)
    rows([EXPIRED] * 20 + [town(n) for n in range(20, 30)])
    world.fill("rows")
    assert len(contents(world)) == 11


def test_pages_that_turn_into_a_login_page_with_a_time_keep_their_texts(
    world: World, web: Web
) -> None:
    paths = [f"/guide/{name}" for name in "abcdefghijklmnopqrstuvwxyz"]
    for path in paths:
        web.put(path, f"<title>{path}</title><p>The {path} of the hall, and its history.</p>")
    config = {"urls": [web.url(path) for path in paths], "allow_private_addresses": True}
    world.register("site", "web", {**config, "requests_per_second": 1000.0})
    world.fill("site")
    before = contents(world)
    login = "<p>Log in to read {0}. It is 12:03:{1}.</p><a href='/in?next={0}'>Log in</a>"
    for n, path in enumerate(paths):
        web.put(path, login.format(path, n))
    with pytest.raises(ContentGuard, match="26 of the 26"):
        world.fill("site")
    assert contents(world) == before


def test_contents_are_compared_without_numbers_and_the_name_of_the_document() -> None:
    key = "https://ex.test/a b?x=1&y=2"
    page = "<p>No page {} (request {}).</p>"
    gists = {
        signature(page.format(name, number).encode(), key).gist
        for name, number in (
            ("https://ex.test/a%20b?x=1&y=2", "f3-9"),
            ("a b", "a-77"),
            ("a%20b", 4),
        )
    }
    others = {signature(b"<p>No page (request no).</p>", key).gist, signature(b"x", key).gist}
    assert len(others - gists) == 2
    assert signature(b"at 12:03", "k").gist == signature(b"at 7", "k").gist
    # Large contents, and hostile ones, take no longer than it takes to read them.
    large = b"a" * LARGEST + b"1"
    assert signature(large, "k").gist == signature(large, "k").body
    signature(b"a" * LARGEST, "a" * 100)
