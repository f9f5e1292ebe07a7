"""Table check_results: the stored result, the precedence of the full form, and the identity of a finding."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from rag_assets.checks.results import check_each_source
from rag_assets.consistency.finding import Finding, conclude
from rag_assets.partitions import SOURCES
from resources.dagster_resources import PostgresResource
from resources.postgres import schema
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import (
    CheckRecord,
    CheckResult,
    last_results,
    record_repair,
    record_results,
)
from resources.postgres.registry.sources import SourceRow
from tests.support.rows import new_source

PASSED = CheckRecord(
    "docs", "dense_vectors", "rows_match", "full", "passed", "All is well.", None, "", None, "", 0
)
FAILED = replace(
    PASSED,
    outcome="failed",
    sentence="1 missing.",
    remedy="repair",
    command="rag repair",
    inconsistency="missing_vectors",
    finding="one row",
)
UNDETERMINED = replace(FAILED, outcome="undetermined", remedy="check", finding="")


@pytest.fixture
def source(connection: Connection) -> SourceRow:
    return new_source(connection)


def record(connection: Connection, base: CheckRecord, run_id: str = "r", **changes: Any) -> None:
    record_results(connection, [replace(base, **changes)], run_id)


def results(connection: Connection) -> dict[str, CheckResult]:
    """Return form -> stored result of the only check."""
    return {result.form: result for result in last_results(connection, "docs")}


def test_only_the_last_result_is_stored(connection: Connection, source: SourceRow) -> None:
    record(connection, PASSED)
    first = results(connection)["full"]
    record(connection, PASSED)
    second = results(connection)["full"]
    assert second.checked_at > first.checked_at and second.since == first.since
    record(connection, FAILED)
    third = results(connection)["full"]
    assert (third.outcome, third.sentence) == ("failed", "1 missing.")
    assert (third.remedy, third.command) == ("repair", "rag repair")
    assert third.inconsistency == "missing_vectors"
    assert third.since > first.since
    # A check that began long before the other one.
    record(connection, PASSED, seconds=60)
    assert results(connection)["full"] == third


def test_a_deleted_source_leaves_no_result(connection: Connection, source: SourceRow) -> None:
    record(connection, PASSED)
    connection.execute("DELETE FROM sources WHERE id = %s", [source.id])
    record(connection, FAILED)
    assert last_results(connection) == []
    assert connection.execute("SELECT count(*) FROM check_results").fetchall() == [(0,)]


def test_repairs_are_counted_while_the_finding_stays(
    connection: Connection, source: SourceRow
) -> None:
    record(connection, FAILED)
    # Each run records its beginning and its end.
    for run_id in ("a", "a", "b"):
        record_repair(connection, source.id, run_id)
    record(connection, FAILED, sentence="1 of more rows is missing.", command="rag repair --all")
    assert results(connection)["full"].repairs == 2
    record(connection, FAILED, finding="another row")
    result = results(connection)["full"]
    assert (result.repairs, result.repaired_at) == (0, None)
    record_repair(connection, source.id, "c")
    record(connection, PASSED)
    # Nothing to repair.
    record_repair(connection, source.id, "d")
    record(connection, FAILED, finding="another row")
    assert results(connection)["full"].repairs == 0


@pytest.mark.parametrize("rows", [100, 150])
def test_a_finding_that_grows_is_another_finding(
    connection: Connection, source: SourceRow, rows: int
) -> None:
    """The UI shows 100 rows; the identity covers all ids, and neither the sentence nor the command."""

    def failed(count: int, sentence: str = "Rows are missing.", command: str = "") -> Finding:
        ids = [f"row {number}" for number in range(count)]
        evidence = [(row,) for row in ids]
        return conclude(
            "failed",
            sentence,
            source="docs",
            command=command,
            key=ids,
            columns=("id",),
            rows=evidence,
        )

    def store(finding: Finding) -> CheckResult:
        record(connection, FAILED, finding=finding.digest("full"))
        return results(connection)["full"]

    first = store(failed(rows))
    record_repair(connection, source.id, "a")
    assert store(failed(rows, "Other words.", "another command")).repairs == 1
    assert store(failed(rows)).since == first.since
    grown = store(failed(rows + 1))
    assert grown.repairs == 0
    assert grown.since > first.since


def test_only_the_full_form_replaces_a_fault_that_the_quick_form_confirmed(
    connection: Connection, source: SourceRow
) -> None:
    record(connection, PASSED)
    record(connection, FAILED, form="quick", finding="")
    # Another sample, without the faulty row.
    for base in (PASSED, UNDETERMINED):
        record(connection, base, form="quick")
        assert results(connection)["quick"].outcome == "failed"
    record_repair(connection, source.id, "a")
    # A full check that began before the quick one.
    record(connection, PASSED, seconds=60)
    assert set(results(connection)) == {"full", "quick"}
    record(connection, PASSED, run_id="later")
    outcomes = {form: result.outcome for form, result in results(connection).items()}
    assert outcomes == {"full": "passed"}
    record(connection, PASSED, form="quick")
    assert results(connection)["quick"].outcome == "passed"


def test_the_full_form_continues_the_count_of_repairs_of_the_quick_one(
    connection: Connection, source: SourceRow
) -> None:
    record(connection, FAILED, form="quick", finding="")
    record_repair(connection, source.id, "a")
    record(connection, FAILED, run_id="later")
    (result,) = last_results(connection)
    assert (result.form, result.repairs) == ("full", 1)
    assert result.repaired_at and result.repaired_at < result.checked_at


def test_the_quick_form_is_stored_beside_the_full_one(
    connection: Connection, source: SourceRow
) -> None:
    record(connection, FAILED)
    record(connection, PASSED, form="quick")
    assert results(connection)["full"].outcome == "failed"


def test_a_result_of_a_run_over_several_sources_is_dated_by_the_start_of_its_own_check(
    connection: Connection, postgres_url: str, tmp_path: Path
) -> None:
    """Another run finds a fault in the first source while this run, which passed it, examines the second one."""
    new_source(connection, "a")
    new_source(connection, "b")
    examined: list[str] = []

    def check(_: Connection, source: str) -> Finding:
        examined.append(source)
        if len(examined) == 2:
            time.sleep(0.2)
            record(connection, FAILED, source=examined[0], check="probe")
            time.sleep(0.2)
        return conclude("passed", "All is well.", source=source, key=[], columns=(), rows=[])

    # Dagster does not evaluate annotations that are strings, as those of this module are.
    @dg.asset_check(
        asset="dense_vectors", partitions_def=SOURCES, required_resource_keys={"postgres"}
    )
    def probe(context) -> dg.AssetCheckResult:
        return check_each_source(context, context.resources.postgres, check)

    definitions = dg.Definitions(
        asset_checks=[probe],
        jobs=[dg.define_asset_job("check", dg.AssetSelection.checks(probe))],
        resources={
            "postgres": PostgresResource(url=postgres_url, home=str(tmp_path), lock_timeout=1)
        },
    )
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(SOURCES.name or "", ["a", "b"])
        run = definitions.resolve_job_def("check").execute_in_process(
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": "a",
                "dagster/asset_partition_range_end": "b",
            },
        )
    outcomes = {result.source: result.outcome for result in last_results(connection)}
    first, second = examined
    assert outcomes == {first: "failed", second: "passed"}
    # The metadata states the duration of each check.
    (evaluation,) = run.get_asset_check_evaluations()
    assert float(str(evaluation.metadata[f"{first}/seconds"].value)) < 0.2


@pytest.fixture
def earlier(postgres_url: str) -> Iterator[tuple[str, Connection]]:
    """A database at revision 0017, with its URL."""
    name = f"earlier_{uuid.uuid4().hex}"
    url = postgres_url.replace("/rag?", f"/{name}?")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        schema._upgrade(url, "0017")
        with psycopg.connect(url, autocommit=True) as connection:
            yield url, connection
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # pyright: ignore[reportArgumentType, reportCallIssue]


OLD_ROWS = [
    # check, outcome, mend; then remedy and inconsistency after the migration
    ("dense_vectors_match_postgres", "failed", "rag repair --source docs", "repair", "missing_vectors"),
    ("dense_index_is_as_declared", "failed", "rag rebuild milvus", "rebuild", "index_issues"),
    ("chunks_have_documents", "failed", "rag repair --source docs", "repair", "orphaned_chunks"),
    ("statuses_agree", "failed", "rag repair --source docs", "repair", "status_mismatches"),
    ("sparse_vectors_match_postgres", "undetermined", "rag check --source docs", "check", "missing_vectors"),
    ("multi_vectors_are_found_by_search", "undetermined", "RAG_DENSE_INDEX='{}' rag repair", "person",
     "index_issues"),
    ("dense_vectors_are_sound", "failed", "rag repair --source docs", "repair", None),
    ("multi_alias_points_to_current_model", "passed", "", None, None),
]  # fmt: skip


def test_results_of_revision_0017_keep_their_age_and_their_repairs(
    earlier: tuple[str, Connection],
) -> None:
    url, connection = earlier
    source = new_source(connection)
    for check, outcome, mend, _, _ in OLD_ROWS:
        connection.execute(
            """INSERT INTO check_results (source_id, asset, check_name, form, outcome, sentence, mend, finding, since,
                 checked_at, run_id, repairs, repaired_at, repair_run_id)
               VALUES (%s, 'a', %s, 'full', %s, 'Old.', %s, %s, now() - interval '2 days', now() - interval '1 day',
                 'old', 2, now() - interval '1 hour', 'repair')""",
            [source.id, check, outcome, mend, "old digest" if outcome == "failed" else ""],
        )
    assert last_results(connection) == []
    assert schema.migrate(url)
    migrated = {result.check: result for result in last_results(connection)}
    assert [
        (check, item.outcome, item.command, item.remedy, item.inconsistency)
        for check, *_ in OLD_ROWS
        for item in [migrated[check]]
    ] == OLD_ROWS

    for check, outcome, *_ in OLD_ROWS:
        base = {"passed": PASSED, "failed": FAILED, "undetermined": UNDETERMINED}[outcome]
        record(connection, base, asset="a", check=check)
    for result in last_results(connection):
        before = migrated[result.check]
        assert (result.since, result.repairs) == (before.since, 2)
        assert result.repaired_at == before.repaired_at
        assert result.checked_at > before.checked_at
    # From now on findings are compared.
    record(connection, FAILED, check="statuses_agree", finding="another row")
    (result,) = [item for item in last_results(connection) if item.check == "statuses_agree"]
    assert result.repairs == 0
