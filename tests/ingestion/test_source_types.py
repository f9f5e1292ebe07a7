"""All source types through the whole pipeline, on real servers: the effects of changes and of dead servers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import dagster as dg
import pytest

from rag_assets.consistency.source_findings import files_are_as_read
from rag_assets.ingestion.fetch import LEFT, NOT_DELETED
from resources.errors import SourceError
from resources.postgres.registry.left_documents import list_left
from resources.sources.registered import open_registered
from resources.sources.signs import FINE_TICK
from tests.support.extent import only_in_soak
from tests.support.servers import Web
from tests.support.stored import assert_stores_match
from tests.support.world import World


def text(number: int) -> str:
    return (
        f"# Hall {number}\n\nInstrument {number} was made in {1600 + number} and shows the sky.\n"
    )


def documents(world: World) -> dict[str, dict[str, Any]]:
    names = ("title", "author", "source_url", "language", "category", "tags", "metadata", "status")
    rows = world.connection.execute(
        f"""SELECT source_key, {", ".join(names[:-1])}, processing_status FROM documents"""  # pyright: ignore
    ).fetchall()
    return {row[0]: dict(zip(names, row[1:])) for row in rows}


def written(plan: dict[str, dict[str, int]], asset: str) -> int:
    return sum(plan[asset][name] for name in ("inserted", "replaced", "deleted"))


def test_an_edited_title_of_a_row_embeds_nothing_and_rewrites_only_its_document(
    world: World,
) -> None:
    row = {
        "id": "a/1", "text": text(1), "name": "Hall of one", "by": "Ada", "at": "https://ex.org/1",
        "lang": "en-GB", "tags": ["x", "y"], "year": 1601, "odd": "nul\u0000 and \ud800", "kind": "halls",
    }  # fmt: skip
    other = {**row, "id": "b", "text": text(2), "name": "Hall of two", "tags": None}
    path = world.write({"rows.jsonl": ""}) / "rows.jsonl"

    def write(*rows: dict[str, Any]) -> None:
        path.write_text("\n".join(map(json.dumps, rows)))

    write(row, other)
    world.register(
        "rows",
        "jsonl",
        {
            "path": str(path), "key": "id", "text": "text", "format": "markdown", "title": "name", "author": "by",
            "url_column": "at", "language_column": "lang", "tags": "tags", "category": "kind",
            "metadata": ["year", "odd"],
        },
    )  # fmt: skip
    world.fill("rows")
    rows = documents(world)
    assert {name: value for name, value in rows["a/1"].items() if name != "metadata"} == {
        "title": "Hall of one", "author": "Ada", "source_url": "https://ex.org/1", "language": "en",
        "category": "halls", "tags": ["x", "y"], "status": "completed",
    }  # fmt: skip
    assert rows["a/1"]["metadata"]["year"] == 1601
    assert rows["a/1"]["metadata"]["odd"].startswith("nul")
    assert rows["b"]["tags"] == []
    assert world.one("SELECT count(*) FROM document_chunks WHERE content LIKE '%%Hall of%%'") == 0
    assert_stores_match(world)

    before = world.one("SELECT updated_at FROM documents WHERE source_key = 'b'")
    write({**row, "name": "The first hall"}, other)
    plan = world.fill("rows")
    assert documents(world)["a/1"]["title"] == "The first hall"
    assert plan["documents"]["replaced"] == 1
    assert all(
        not written(plan, asset) for asset in plan if asset not in ("source_documents", "documents")
    )
    assert world.one("SELECT updated_at FROM documents WHERE source_key = 'b'") == before

    write({**row, "name": "The first hall", "kind": "", "tags": "z"}, other)
    plan = world.fill("rows")
    assert (documents(world)["a/1"]["category"], documents(world)["a/1"]["tags"]) == (None, ["z"])
    assert (plan["chunk_embeddings"]["inserted"], plan["dense_vectors"]["replaced"]) == (0, 1)

    # One row moves up, and one is deleted.
    write(other)
    plan = world.fill("rows")
    assert plan["source_documents"] == {"inserted": 0, "replaced": 0, "deleted": 1, "kept": 1, "failed": 0}  # fmt: skip
    assert_stores_match(world)
    assert not any(written(world.fill("rows"), asset) for asset in plan)


def test_rows_lost_from_the_raw_store_are_read_again(world: World) -> None:
    path = world.write(
        {"rows.csv": "id,text\n" + "".join(f"{n},text {n} of it\n" for n in range(9))}
    )
    world.register("rows", "csv", {"path": f"{path}/rows.csv", "key": "id", "text": "text"})
    world.fill("rows")
    for raw in (world.folder.parent / "storage" / "raw").rglob("*"):
        if raw.is_file():
            raw.unlink()
    world.connection.execute("UPDATE documents SET parser_fingerprint = 'old'")
    plan = world.fill("rows")
    assert (plan["documents"]["replaced"], plan["documents"]["failed"]) == (9, 0)


@pytest.fixture
def served(world: World, web: Web) -> Web:
    """A web folder of 40 documents, registered as `served`."""
    index = "".join(f'<a href="{n:02}.md">{n}</a>' for n in range(40))
    web.put("/docs/", index)
    for number in range(40):
        web.put(f"/docs/{number:02}.md", text(number))
    world.register("served", "files", {"url": web.url("/docs/"), "allow_private_addresses": True})
    return web


@pytest.mark.parametrize(
    ("fault", "late"), [(500, False), ("reset", True), *only_in_soak(("reset", False))]
)
def test_a_server_that_dies_halfway_loses_nothing_and_the_next_sync_finishes(
    world: World, served: Web, fault: int | str, late: bool
) -> None:
    world.fill("served")
    for number in range(0, 26, 2):
        served.put(f"/docs/{number:02}.md", text(number) + "Edited.\n")
    served.put("/docs/40.md", text(40))
    # One new document is listed, one is deleted, and after five documents the server stops answering.
    served.put("/docs/", "".join(f'<a href="{n:02}.md">{n}</a>' for n in range(1, 41)))
    requested: list[str] = []

    def die(method: str, path: str) -> int | str | None:
        if method == "HEAD" or path == "/docs/":
            return None
        if path not in requested:
            requested.append(path)
        number = requested.index(path) + 1
        if late and number == 5:
            # It is answered after later requests have failed.
            wait_until(lambda: len(requested) >= 8)
        elif late and number > 8:
            time.sleep(0.2)
        return fault if number > 5 else None

    served.fault = die
    result = world.run("sync_source", "served", raise_on_error=False)
    assert not result.success
    message = world.one("SELECT last_error FROM sources WHERE name = 'served'")
    assert "stopped answering" in message and "nothing was deleted" in message
    assert "rag ingest served" in message
    assert world.one("SELECT count(*) FROM documents") == 40
    assert world.one("SELECT count(*) FROM source_entries WHERE error IS NOT NULL") == 0

    served.fault = None
    served.requests.clear()
    plan = world.fill("served")
    assert plan["source_documents"]["deleted"] == 1
    assert plan["source_documents"]["failed"] == 0
    fetched = [path for method, path, _ in served.requests if method == "GET" and path != "/docs/"]
    # The five documents fetched before the end were kept.
    assert len(fetched) == 13 - 5
    assert world.one("SELECT count(*) FROM documents WHERE content LIKE '%%Edited%%'") == 12
    assert world.one("SELECT count(*) FROM documents") == 40
    assert_stores_match(world)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def test_a_single_failed_document_is_recorded_and_retried(world: World, served: Web) -> None:
    served.fault = lambda method, path: 500 if (method, path) == ("GET", "/docs/07.md") else None
    plan = world.fill("served")["source_documents"]
    assert (plan["inserted"], plan["failed"]) == (39, 1)
    assert "500" in world.one("SELECT error_message FROM documents WHERE source_key = '07.md'")
    served.fault = None
    plan = world.fill("served")
    assert plan["source_documents"]["replaced"] == 1
    assert world.one("SELECT count(*) FROM documents WHERE processing_status = 'completed'") == 40
    assert_stores_match(world)
    # A server that is dead at the listing deletes nothing.
    served.fault = lambda *_: 502
    with pytest.raises(SourceError):
        world.fill("served")
    assert world.one("SELECT count(*) FROM documents") == 40


def test_pages_of_a_sitemap_are_requested_with_their_last_etag(world: World, web: Web) -> None:
    for number in range(5):
        web.put(f"/{number}", f"<title>Hall {number}</title><p>{text(number)}</p>")

    def list_pages(*numbers: int) -> None:
        locations = "".join(f"<url><loc>{web.url(f'/{n}')}</loc></url>" for n in numbers)
        web.put("/sitemap.xml", f"<urlset>{locations}</urlset>")

    list_pages(0, 1, 2, 3)
    config = {"sitemap": web.url("/sitemap.xml"), "allow_private_addresses": True}
    world.register("site", "web", {**config, "requests_per_second": 100.0})
    world.fill("site")
    page = documents(world)[web.url("/1")]
    assert (page["title"], page["source_url"]) == ("Hall 1", web.url("/1"))

    web.requests.clear()
    plan = world.fill("site")
    assert not any(written(plan, asset) for asset in plan)
    assert [status for _, path, status in web.requests if path[1:].isdigit()] == [304] * 4

    web.put("/2", f"<title>Hall 2</title><p>{text(2)} Edited.</p>")
    list_pages(0, 2, 3, 4)
    plan = world.fill("site")
    assert plan["source_documents"] == {"inserted": 1, "replaced": 1, "deleted": 1, "kept": 2, "failed": 0}  # fmt: skip
    assert_stores_match(world)


def test_rows_of_a_database_are_added_to_milvus_and_deleted_from_it(world: World) -> None:
    world.connection.execute(
        "CREATE TABLE pages (id int PRIMARY KEY, body text, changed timestamptz)"
    )
    try:
        world.connection.execute(
            "INSERT INTO pages SELECT n, 'Page ' || n || ' of the book', now() FROM generate_series(1, 9) n"
        )
        config = {
            "url": world.settings.postgres_url,
            "query": "SELECT * FROM pages",
            "key": "id",
            "text": "body",
        }
        world.register("pages", "sql", {**config, "updated_at": "changed"})
        assert world.fill("pages")["documents"]["inserted"] == 9
        world.connection.execute("DELETE FROM pages WHERE id = 1")
        world.connection.execute(
            "UPDATE pages SET body = body || '!', changed = now() WHERE id = 2"
        )
        plan = world.fill("pages")["source_documents"]
        assert plan == {"inserted": 0, "replaced": 1, "deleted": 1, "kept": 7, "failed": 0}
        assert_stores_match(world)
        plan = world.fill("pages")
        assert not any(written(plan, asset) for asset in plan)
    finally:
        world.connection.execute("DROP TABLE pages")


def left(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return what the plan of source_documents says about the documents that it left."""
    (listed,) = result.asset_materializations_for_node("source_documents")
    metadata = listed.metadata
    return {name: metadata[name].value for name in (LEFT, NOT_DELETED) if name in metadata}


def test_a_file_that_is_being_written_keeps_its_text_until_it_is_whole(world: World) -> None:
    book = "".join(f"# Chapter {n}\n\nValve number{n}x opens on day {n}.\n\n" for n in range(40))
    root = world.write({"book.md": book, "log.md": "Pump one was started.\n"})
    world.add()
    world.fill()
    chunks = "SELECT count(*) FROM document_chunks WHERE content LIKE %s"
    with (
        (root / "book.md").open("w") as part,
        (root / "log.md").open("a") as log,
        (root / "new.md").open("w") as new,
    ):
        part.write(book[: len(book) * 6 // 10])
        log.write("Pump two was started.\n")
        new.write("# Half of a new te")
        for file in (part, log, new):
            file.flush()
        assert left(world.run("sync_source")) == {LEFT: 2}
        assert world.one(chunks, "%number38x%") == 1
        # What continues its former text replaces it: a log is always open.
        assert world.one(chunks, "%Pump two%") == 1
        assert world.one("SELECT count(*) FROM documents") == 2
        part.write(book[len(book) * 6 // 10 :])
        new.write("xt.\n")
    world.fill()
    assert list_left(world.connection, 9) == []
    assert world.one("SELECT count(*) FROM documents") == 3
    assert world.one(chunks, "%number38x%") == 1
    assert_stores_match(world)


def test_rows_that_a_writer_has_not_reached_are_not_deleted(world: World) -> None:
    rows = [json.dumps({"id": n, "body": text(n)}) + "\n" for n in range(4)]
    path = world.write({"rows.jsonl": "".join(rows)}) / "rows.jsonl"
    world.register("rows", "jsonl", {"path": str(path), "key": "id", "text": "body"})
    world.fill("rows")
    with path.open("w") as file:
        file.write(rows[0].replace("shows", "showed") + rows[1][:20])
        file.flush()
        assert left(world.run("sync_source", "rows"))[NOT_DELETED].startswith("3 documents")
        assert world.one("SELECT count(*) FROM documents") == 4
        assert world.one("SELECT count(*) FROM documents WHERE content LIKE '%%showed%%'") == 1
    path.write_text(rows[0])
    world.fill("rows")
    assert world.one("SELECT count(*) FROM documents") == 1


def test_a_file_that_differs_under_equal_signs_is_found_by_a_check_and_read_on_request(
    world: World,
) -> None:
    root = world.write({"a.md": "The gate is open.\n", "b.md": "The tower is closed.\n"})
    source = world.add()
    world.fill()
    assert files_are_as_read(world.connection, source).passed
    (root / "a.md").write_text("The gate is shut.\n")
    time.sleep(FINE_TICK * 1.5)
    # As on a file system that keeps neither the time of the last change nor another inode.
    with closing(open_registered(source)) as opened:
        tokens = {entry.key: entry.change_token for entry in opened.list()}
    world.connection.execute(
        "UPDATE source_entries SET change_token = %s WHERE key = 'a.md'", [tokens["a.md"]]
    )
    assert not written(world.fill(), "source_documents")
    finding = files_are_as_read(world.connection, source)
    assert (finding.outcome, finding.remedy, finding.key) == ("failed", "person", {"a.md"})
    assert finding.command == "rag ingest docs --reread"
    world.run("sync_source", ops={"source_documents": {"reread": True}})
    assert (
        world.one("SELECT content FROM documents WHERE source_key = 'a.md'") == "The gate is shut."
    )
    assert files_are_as_read(world.connection, source).passed
