"""failed_checks_sensor on real stores: when it requests a repair, when another check, and when it stops."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from dagster import DagsterRunStatus
from dagster._core.definitions.sensor_definition import SensorExecutionData

from rag_assets.automation.run_requests import FIRST_RETRY, LAST_RETRY
from rag_assets.automation.sensors.failed_checks import ATTEMPT_TAG
from rag_assets.partitions import PARTITION_TAG
from resources.postgres.consistency.check_results import (
    CheckRecord,
    CheckResult,
    last_results,
    record_repair,
    record_results,
)
from resources.postgres.registry.sources import get_source
from tests.support.daemon import DaemonWorld, in_progress, two_synced_sources
from tests.support.extent import selected

SENSOR = "failed_checks_sensor"
FULL = "dense_vectors_match_postgres"


def requested(data: SensorExecutionData) -> list[tuple[str | None, str, str | None]]:
    """Return (job, partition, attempt) of each request."""
    return [
        (request.job_name, request.tags[PARTITION_TAG], request.tags.get(ATTEMPT_TAG))
        for request in data.run_requests or []
    ]


def launch(daemon: DaemonWorld, data: SensorExecutionData) -> None:
    for request in data.run_requests or []:
        assert request.job_name
        daemon.launch_elsewhere(request.job_name, dict(request.tags))


def execute(daemon: DaemonWorld, data: SensorExecutionData) -> None:
    """Do what the requests ask for, checks without Dagster."""
    if requested(data) == [("check_source", "a", None)]:
        daemon.check("a")
    else:
        launch(daemon, data)


def stored_results(daemon: DaemonWorld, source: str = "a") -> dict[tuple[str, str], CheckResult]:
    """Return (check, form) -> result."""
    results = last_results(daemon.connection, source)
    return {(result.check, result.form): result for result in results}


FAILED = CheckRecord(
    source="a",
    asset="dense_vectors",
    check=FULL,
    form="full",
    outcome="failed",
    sentence="1 missing.",
    remedy="repair",
    command="any text",
    inconsistency="missing_vectors",
    finding="x",
    seconds=0.0,
)
PASSED = replace(FAILED, outcome="passed", remedy=None, command="", inconsistency=None, finding="")
UNDETERMINED = replace(FAILED, outcome="undetermined", remedy="check", finding="")


def record(daemon: DaemonWorld, result: CheckRecord, **changes: Any) -> None:
    record_results(daemon.connection, [replace(result, **changes)], "run")


def two_sources(daemon: DaemonWorld) -> None:
    for name in ("a", "b"):
        daemon.add(name)


def age(daemon: DaemonWorld, seconds: float) -> None:
    """Make all stored results older by this number of seconds."""
    daemon.connection.execute(
        """UPDATE check_results SET checked_at = checked_at - %(by)s * interval '1 second',
             since = since - %(by)s * interval '1 second', repaired_at = repaired_at - %(by)s * interval '1 second'""",
        {"by": seconds},
    )


def test_a_lost_row_is_repaired_and_checked_without_a_person(daemon: DaemonWorld) -> None:
    """A quick check, a repair of that partition alone, a full check, and then nothing."""
    two_synced_sources(daemon)
    daemon.connection.execute(
        "UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute'"
    )
    assert requested(daemon.tick(SENSOR)) == []
    client = daemon.store.client
    (lost,) = client.query(
        "dense_collection", filter='source == "a"', output_fields=["id"], limit=10
    )
    client.delete("dense_collection", ids=[lost["id"]])
    fired = daemon.fire("frequent_quick_check", datetime(2030, 1, 1, 2, 15, tzinfo=UTC))
    for request in fired.run_requests or []:
        assert daemon.launch_elsewhere("check_source_quickly", dict(request.tags)).success
    quick = stored_results(daemon)[FULL, "quick"]
    assert quick.outcome == "failed"
    assert "drifted: 1 of 1 rows" in quick.sentence
    assert "Last full comparison never" in quick.sentence

    first = daemon.tick(SENSOR)
    # The quick check of the other source found another count of the whole collection: a full check decides.
    assert requested(first) == [("repair_drift", "a", "1 of 3"), ("check_source", "b", None)]
    launch(daemon, first)
    assert client.get("dense_collection", [lost["id"]], output_fields=["id"])
    second = daemon.tick(SENSOR, first.cursor)
    assert requested(second) == [("check_source", "a", None)]
    launch(daemon, second)
    assert stored_results(daemon)[FULL, "full"].outcome == "passed"
    # The full form replaces the quick one.
    assert (FULL, "quick") not in stored_results(daemon)
    rest = daemon.tick(SENSOR, second.cursor)
    assert requested(rest) == []
    assert rest.cursor == "{}"


def undo_repairs(daemon: DaemonWorld, key: str) -> None:
    """Act like another service that writes the table: a document's chunk_count is wrong again after each update."""
    daemon.connection.execute("DROP TRIGGER IF EXISTS undo ON documents")
    daemon.connection.execute("UPDATE documents SET chunk_count = 1")
    daemon.connection.execute(
        """CREATE OR REPLACE FUNCTION pg_temp.undo() RETURNS trigger LANGUAGE plpgsql
           AS 'BEGIN NEW.chunk_count := 99; RETURN NEW; END'"""
    )
    if key:
        daemon.connection.execute(
            f"""CREATE TRIGGER undo BEFORE UPDATE ON documents FOR EACH ROW WHEN (NEW.source_key = '{key}')
                EXECUTE FUNCTION pg_temp.undo()"""  # pyright: ignore
        )
        daemon.connection.execute("UPDATE documents SET updated_at = now()")


def test_after_three_useless_repairs_the_sensor_gives_up_and_says_so(daemon: DaemonWorld) -> None:
    for name in ("a.md", "b.md"):
        daemon.write({name: f"# {name}\n\nThis text is of {name}.\n"}, "a")
    daemon.add("a")
    daemon.fill("a")
    try:
        undo_repairs(daemon, "a.md")
        daemon.check("a")
        cursor, steps = None, []
        for _ in range(6):
            data = daemon.tick(SENSOR, cursor)
            cursor = data.cursor
            steps += [(job, attempt) for job, _, attempt in requested(data)]
            execute(daemon, data)
        check = ("check_source", None)
        assert steps == [step for n in (1, 2, 3) for step in (("repair_drift", f"{n} of 3"), check)]
        stopped = daemon.tick(SENSOR, cursor)
        assert requested(stopped) == []
        assert "a: chunk_positions_are_contiguous fails after 3 repairs" in (
            stopped.skip_message or ""
        )
        assert "docs/how-to/repair.md" in (stopped.skip_message or "")
        age(daemon, 7 * 86_400)
        assert requested(daemon.tick(SENSOR, stopped.cursor)) == []
        # Another finding is another failure.
        undo_repairs(daemon, "b.md")
        daemon.check("a")
        assert requested(daemon.tick(SENSOR)) == [("repair_drift", "a", "1 of 3")]
    finally:
        undo_repairs(daemon, "")
    daemon.check("a")
    passed = daemon.tick(SENSOR)
    assert requested(passed) == []
    assert "fails" not in (passed.skip_message or "")


def test_nothing_is_requested_while_a_run_of_the_partition_is_in_progress(
    daemon: DaemonWorld,
) -> None:
    two_sources(daemon)
    record(daemon, FAILED)
    for job in ("sync_source", "check_source", "repair_drift"):
        run = in_progress(daemon, job, {PARTITION_TAG: "a"})
        assert requested(daemon.tick(SENSOR)) == []
        daemon.instance.report_run_failed(run)
    other = in_progress(daemon, "sync_source", {PARTITION_TAG: "b"})
    assert requested(daemon.tick(SENSOR)) == [("repair_drift", "a", "1 of 3")]
    assert daemon.instance.get_run_by_id(other.run_id).status == DagsterRunStatus.STARTED  # pyright: ignore


def test_a_request_without_effect_is_repeated_at_growing_intervals(
    daemon: DaemonWorld, monkeypatch: Any
) -> None:
    import time

    two_sources(daemon)
    record(daemon, FAILED)
    now, cursor, waits = time.time(), None, []
    monkeypatch.setattr(time, "time", lambda: now)
    last = now
    for _ in range(2000):
        data = daemon.tick(SENSOR, cursor)
        cursor = data.cursor
        # Each run dies before it begins, so no attempt is counted.
        if requested(data):
            assert requested(data) == [("repair_drift", "a", "1 of 3")]
            waits.append(now - last)
            last = now
        if len(waits) == 5:
            break
        now += FIRST_RETRY / 2
    assert waits == [0, FIRST_RETRY, FIRST_RETRY * 2, FIRST_RETRY * 4, FIRST_RETRY * 8]
    assert len(cursor or "") < 200


def test_an_undetermined_result_is_checked_again_and_never_repaired(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    # Whatever its remedy.
    record(daemon, UNDETERMINED, remedy="repair")
    # After a minute.
    assert requested(daemon.tick(SENSOR)) == []
    age(daemon, FIRST_RETRY + 1)
    assert requested(daemon.tick(SENSOR)) == [("check_source", "a", None)]
    record(daemon, UNDETERMINED)
    age(daemon, FIRST_RETRY + 10)
    again = daemon.tick(SENSOR)
    assert requested(again) == [("check_source", "a", None)]
    # Undetermined for more than two minutes now.
    record(daemon, UNDETERMINED)
    age(daemon, FIRST_RETRY + 10)
    assert requested(daemon.tick(SENSOR)) == []
    age(daemon, LAST_RETRY)
    assert requested(daemon.tick(SENSOR)) == [("check_source", "a", None)]
    assert daemon.instance.get_runs_count() == 0


@pytest.mark.parametrize("remedy", selected(["rebuild", "check", "person"], ["check"]))
def test_only_the_remedy_decides_about_a_repair(daemon: DaemonWorld, remedy: str) -> None:
    two_sources(daemon)
    record(daemon, FAILED, remedy=remedy, command="rag repair --source a")
    assert requested(daemon.tick(SENSOR)) == []
    record(daemon, FAILED, remedy="repair", command="words for people")
    assert requested(daemon.tick(SENSOR)) == [("repair_drift", "a", "1 of 3")]


def test_a_repair_by_hand_is_checked(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, FAILED)
    record_repair(daemon.connection, get_source(daemon.connection, "a").id, "by hand")
    assert requested(daemon.tick(SENSOR)) == [("check_source", "a", None)]
    record(daemon, FAILED)
    assert requested(daemon.tick(SENSOR)) == [("repair_drift", "a", "2 of 3")]


def test_a_differing_count_requests_one_full_check(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, PASSED)
    record(daemon, UNDETERMINED, form="quick", finding="+1 rows")
    assert requested(daemon.tick(SENSOR)) == [("check_source", "a", None)]
    # The full form found nothing: the server counts otherwise.
    record(daemon, PASSED)
    record(daemon, UNDETERMINED, form="quick", finding="+1 rows")
    assert requested(daemon.tick(SENSOR)) == []
    record(daemon, UNDETERMINED, form="quick", finding="-3 rows")
    assert requested(daemon.tick(SENSOR)) == [("check_source", "a", None)]


def test_an_inactive_source_is_left_alone(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, FAILED)
    daemon.connection.execute("UPDATE sources SET is_active = false")
    assert requested(daemon.tick(SENSOR)) == []
