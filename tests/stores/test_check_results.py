"""Table check_results: what is remembered, what a quick form may not take back, and what counts as the same finding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import (
    CheckResult,
    Finding,
    last_results,
    record_findings,
    record_repair,
)
from resources.postgres.registry.sources import SourceRow
from tests.support.rows import new_source

PASSED = Finding("docs", "dense_vectors", "rows_match", "full", "passed", "All is well.", "", "", 0)
FAILED = replace(
    PASSED, outcome="failed", sentence="1 missing.", mend="rag repair", finding="one row"
)


@pytest.fixture
def source(connection: Connection) -> SourceRow:
    return new_source(connection)


def recorded(connection: Connection, base: Finding, run_id: str = "r", **changes: Any) -> None:
    record_findings(connection, [replace(base, **changes)], run_id)


def results(connection: Connection) -> dict[str, CheckResult]:
    """form -> what is remembered of the one check."""
    return {result.form: result for result in last_results(connection, "docs")}


def test_the_last_result_is_remembered_once(connection: Connection, source: SourceRow) -> None:
    recorded(connection, PASSED)
    first = results(connection)["full"]
    recorded(connection, PASSED)
    second = results(connection)["full"]
    assert second.checked_at > first.checked_at and second.since == first.since
    recorded(connection, FAILED)
    third = results(connection)["full"]
    assert (third.outcome, third.sentence, third.mend) == ("failed", "1 missing.", "rag repair")
    assert third.since > first.since
    recorded(connection, PASSED, seconds=60)  # it began to look long before the other
    assert results(connection)["full"] == third


def test_a_source_that_is_gone_leaves_nothing(connection: Connection, source: SourceRow) -> None:
    recorded(connection, PASSED)
    connection.execute("DELETE FROM sources WHERE id = %s", [source.id])
    recorded(connection, FAILED)
    assert last_results(connection) == []
    assert connection.execute("SELECT count(*) FROM check_results").fetchall() == [(0,)]


def test_repairs_count_while_the_finding_stays(connection: Connection, source: SourceRow) -> None:
    recorded(connection, FAILED)
    for run_id in ("a", "a", "b"):  # each says so when it begins and when it ended
        record_repair(connection, source.id, run_id)
    recorded(connection, FAILED, sentence="1 missing of more rows than before.")
    assert results(connection)["full"].repairs == 2
    recorded(connection, FAILED, finding="another row")
    found = results(connection)["full"]
    assert (found.repairs, found.repaired_at) == (0, None)
    record_repair(connection, source.id, "c")
    recorded(connection, PASSED)
    record_repair(connection, source.id, "d")  # nothing to mend
    recorded(connection, FAILED, finding="another row")
    assert results(connection)["full"].repairs == 0


def test_what_a_quick_form_confirmed_only_the_full_one_takes_back(
    connection: Connection, source: SourceRow
) -> None:
    recorded(connection, PASSED)
    recorded(connection, FAILED, form="quick", finding="")
    for outcome in ("passed", "undetermined"):  # another sample, that does not hold the row
        recorded(connection, PASSED, form="quick", outcome=outcome)
        assert results(connection)["quick"].outcome == "failed"
    record_repair(connection, source.id, "a")
    recorded(connection, PASSED, seconds=60)  # began before the quick one
    assert set(results(connection)) == {"full", "quick"}
    recorded(connection, PASSED, run_id="later")
    assert {form: found.outcome for form, found in results(connection).items()} == {
        "full": "passed"
    }
    recorded(connection, PASSED, form="quick")
    assert results(connection)["quick"].outcome == "passed"


def test_the_full_form_goes_on_counting_repairs_of_what_the_quick_one_found(
    connection: Connection, source: SourceRow
) -> None:
    recorded(connection, FAILED, form="quick", finding="")
    record_repair(connection, source.id, "a")
    recorded(connection, FAILED, run_id="later")
    (found,) = last_results(connection)
    assert (found.form, found.repairs) == ("full", 1)
    assert found.repaired_at and found.repaired_at < found.checked_at


def test_a_quick_form_stands_beside_a_full_one(connection: Connection, source: SourceRow) -> None:
    recorded(connection, FAILED)
    recorded(connection, PASSED, form="quick")
    assert results(connection)["full"].outcome == "failed"
