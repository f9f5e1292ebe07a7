"""Repair: finds and repairs what others did to Milvus or to statuses; a second repair finds nothing."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from resources.milvus.store import MilvusStore
from tests.support.operations import repair
from tests.support.stored import age_acknowledgements, assert_consistent
from tests.support.texts import long_text
from tests.support.world import World


def counts(report: dict[str, Any], alias: str) -> dict[str, int]:
    """drift class -> number of rows in the collection of an alias."""
    (drift,) = [drift for name, drift in report["found"].items() if name.startswith(alias)]
    return {name: drift[name] for name in ("missing", "orphaned", "stale", "duplicate")}


def test_each_class_of_drift_is_repaired_and_the_second_repair_finds_nothing(world: World) -> None:
    world.write({f"{n}.md": long_text(f"town {n}", 6) for n in range(4)})
    world.add()
    world.fill()
    age_acknowledgements(world)
    client = world.store.client
    ids = [
        row["id"]
        for row in client.query(
            "dense_collection", filter='id >= ""', output_fields=["id"], limit=100
        )
    ]
    client.delete("dense_collection", ids=ids[:2])
    rows = client.get("dense_collection", ids[2:5], output_fields=["*"])
    client.upsert("dense_collection", [{**row, "row_fingerprint": "0" * 32} for row in rows])
    orphans = [
        {**rows[0], "id": f"{uuid.uuid4()}_dense"},
        {**rows[0], "id": "foreign", "source": "nowhere"},
    ]
    client.upsert("dense_collection", orphans)

    planned = repair(world, dry_run=True)
    expected = {"missing": 2, "orphaned": 2, "stale": 3, "duplicate": 0}
    assert counts(planned, "dense") == expected
    assert not planned["clean"]
    # It changed nothing.
    assert counts(repair(world, dry_run=True), "dense") == expected

    done = repair(world)
    assert counts(done, "dense") == expected
    assert counts(done, "sparse") == dict.fromkeys(expected, 0)
    assert done["clean"]
    assert done["plan"]["chunk_embeddings"]["inserted"] == 0
    assert done["plan"]["dense_vectors"]["inserted"] == 5
    assert_consistent(world)
    again = repair(world)
    assert again["clean"]
    assert not any(any(counts(again, alias).values()) for alias in ("dense", "sparse"))
    assert all(not plan["inserted"] and not plan["replaced"] for plan in again["plan"].values())


def test_contradicting_statuses_are_computed_again(world: World) -> None:
    world.write({f"{n}.md": long_text(f"town {n}", 6) for n in range(6)})
    world.add()
    world.fill()
    change = world.connection.execute
    change("UPDATE documents SET processing_status = 'processing' WHERE source_key = '0.md'")
    change("UPDATE documents SET indexing_status = 'indexing' WHERE source_key = '1.md'")
    change("UPDATE documents SET chunk_count = 99 WHERE source_key = '2.md'")
    of_document = "(SELECT id FROM documents WHERE source_key = %s)"
    change(
        f"DELETE FROM document_chunks WHERE position = 0 AND document_id = {of_document}", ["3.md"]
    )
    change(
        f"UPDATE document_chunks SET dense_vector_id = NULL WHERE document_id = {of_document}",
        ["4.md"],
    )
    change(
        f"DELETE FROM vector_rows WHERE chunk_id IN (SELECT id FROM document_chunks WHERE document_id = {of_document})",
        ["5.md"],
    )
    assert {"statuses_agree", "chunk_positions_are_contiguous"} <= world.failed_checks().keys()
    report = repair(world)
    assert sorted(report["contradicting_documents"]) == [f"{n}.md" for n in range(6)]
    assert_consistent(world)
    assert repair(world)["contradicting_documents"] == []


def test_nothing_is_changed_where_reads_disagree(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write({"a.md": long_text("town", 6)})
    world.add()
    world.fill()
    age_acknowledgements(world)
    scan = MilvusStore.scan

    def losing(self: MilvusStore, name: str, *where: Any, **options: Any):
        """The fault: a scan that drops every third row, as real iterators have done."""
        for bucket in scan(self, name, *where, **options):
            yield [row for index, row in enumerate(bucket) if index % 3]

    monkeypatch.setattr(MilvusStore, "scan", losing)
    report = repair(world)
    assert {drift["verdict"] for drift in report["found"].values()} == {"undetermined"}
    assert not report["clean"]
    assert all(not plan["inserted"] and not plan["deleted"] for plan in report["plan"].values())
    failed = world.check()["dense_vectors_match_postgres"]
    assert not failed.passed
    assert failed.severity.value == "WARN"
