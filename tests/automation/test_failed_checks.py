"""failed_checks_sensor on real stores: what is repaired, what is only looked at again, and when it stops."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dagster import DagsterRunStatus
from dagster._core.definitions.sensor_definition import SensorExecutionData

from rag_assets.automation.run_requests import FIRST_RETRY, LAST_RETRY
from rag_assets.automation.sensors.failed_checks import ATTEMPT_TAG
from rag_assets.partitions import PARTITION_TAG
from resources.postgres.consistency.check_results import (
    CheckResult,
    Finding,
    last_results,
    record_findings,
    record_repair,
)
from resources.postgres.registry.sources import get_source
from tests.automation.conftest import DaemonWorld
from tests.automation.test_sensors_and_schedules import in_progress, two_synced_sources

SENSOR = "failed_checks_sensor"
FULL = "dense_vectors_match_postgres"


def asked(data: SensorExecutionData) -> list[tuple[str | None, str, str | None]]:
    """(job, partition, attempt) of each request."""
    return [
        (request.job_name, request.tags[PARTITION_TAG], request.tags.get(ATTEMPT_TAG))
        for request in data.run_requests or []
    ]


def launch(daemon: DaemonWorld, data: SensorExecutionData) -> None:
    for request in data.run_requests or []:
        assert request.job_name
        daemon.launch(request.job_name, dict(request.tags))


def remembered(daemon: DaemonWorld, source: str = "a") -> dict[tuple[str, str], CheckResult]:
    found = last_results(daemon.connection, source)
    return {(result.check, result.form): result for result in found}


def record(daemon: DaemonWorld, outcome: str, **changes: Any) -> None:
    finding = {
        "source": "a", "asset": "dense_vectors", "check": FULL, "form": "full", "outcome": outcome,
        "sentence": "1 missing.", "mend": "rag repair --source a", "finding": "x", "seconds": 0.0,
    }  # fmt: skip
    record_findings(daemon.connection, [Finding(**(finding | changes))], "run")


def two_sources(daemon: DaemonWorld) -> None:
    for name in ("a", "b"):
        daemon.add(name)


def age(daemon: DaemonWorld, seconds: float) -> None:
    """As if all that is remembered had been so many seconds ago."""
    daemon.connection.execute(
        """UPDATE check_results SET checked_at = checked_at - %(by)s * interval '1 second',
             since = since - %(by)s * interval '1 second', repaired_at = repaired_at - %(by)s * interval '1 second'""",
        {"by": seconds},
    )


def test_a_lost_row_is_found_repaired_and_found_to_be_there(daemon: DaemonWorld) -> None:
    """Nobody does anything: a quick look, a repair of that partition alone, a full check, and rest."""
    two_synced_sources(daemon)
    daemon.connection.execute(
        "UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute'"
    )
    assert asked(daemon.tick(SENSOR)) == []
    client = daemon.store.client
    (lost,) = client.query(
        "dense_collection", filter='source == "a"', output_fields=["id"], limit=10
    )
    client.delete("dense_collection", ids=[lost["id"]])
    fired = daemon.fire("frequent_quick_check", datetime(2030, 1, 1, 2, 15, tzinfo=UTC))
    for request in fired.run_requests or []:
        assert daemon.launch("check_source_quickly", dict(request.tags)).success
    quick = remembered(daemon)[FULL, "quick"]
    assert quick.outcome == "failed"
    assert "drifted: 1 of 1 rows" in quick.sentence
    assert "Last full comparison never" in quick.sentence

    first = daemon.tick(SENSOR)
    # The other source's quick look saw the count of the whole collection differ: a full check is to tell.
    assert asked(first) == [("repair_drift", "a", "1 of 3"), ("check_source", "b", None)]
    launch(daemon, first)
    assert client.get("dense_collection", [lost["id"]], output_fields=["id"])
    second = daemon.tick(SENSOR, first.cursor)
    assert asked(second) == [("check_source", "a", None)]
    launch(daemon, second)
    assert remembered(daemon)[FULL, "full"].outcome == "passed"
    assert (FULL, "quick") not in remembered(daemon)  # the full form had the last word
    rest = daemon.tick(SENSOR, second.cursor)
    assert asked(rest) == []
    assert rest.cursor == "{}"


def undo_repairs(daemon: DaemonWorld, key: str) -> None:
    """What another service does that writes the table: a document's chunk_count is wrong again after each update."""
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


def test_what_repairs_do_not_mend_ends_after_three_and_is_said(daemon: DaemonWorld) -> None:
    for name in ("a.md", "b.md"):
        daemon.write({name: f"# {name}\n\nThis text is of {name}.\n"}, "a")
    daemon.add("a")
    daemon.sync("a")
    try:
        undo_repairs(daemon, "a.md")
        daemon.launch("check_source", {PARTITION_TAG: "a"})
        cursor, seen = None, []
        for _ in range(6):
            data = daemon.tick(SENSOR, cursor)
            cursor = data.cursor
            seen += [(job, attempt) for job, _, attempt in asked(data)]
            launch(daemon, data)
        check = ("check_source", None)
        assert seen == [step for n in (1, 2, 3) for step in (("repair_drift", f"{n} of 3"), check)]
        stopped = daemon.tick(SENSOR, cursor)
        assert asked(stopped) == []
        assert "a: chunk_positions_are_contiguous fails after 3 repairs" in (
            stopped.skip_message or ""
        )
        assert "docs/operations.md" in (stopped.skip_message or "")
        age(daemon, 7 * 86_400)
        assert asked(daemon.tick(SENSOR, stopped.cursor)) == []  # for good
        undo_repairs(daemon, "b.md")  # another finding is another failure
        daemon.launch("check_source", {PARTITION_TAG: "a"})
        assert asked(daemon.tick(SENSOR)) == [("repair_drift", "a", "1 of 3")]
    finally:
        undo_repairs(daemon, "")
    daemon.launch("check_source", {PARTITION_TAG: "a"})
    passed = daemon.tick(SENSOR)
    assert asked(passed) == []
    assert "fails" not in (passed.skip_message or "")


def test_nothing_is_asked_for_while_a_run_of_the_partition_is_at_work(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, "failed")
    for job in ("sync_source", "check_source", "repair_drift"):
        run = in_progress(daemon, job, {PARTITION_TAG: "a"})
        assert asked(daemon.tick(SENSOR)) == []
        daemon.instance.report_run_failed(run)
    other = in_progress(daemon, "sync_source", {PARTITION_TAG: "b"})
    assert asked(daemon.tick(SENSOR)) == [("repair_drift", "a", "1 of 3")]
    assert daemon.instance.get_run_by_id(other.run_id).status == DagsterRunStatus.STARTED  # pyright: ignore


def test_a_request_that_came_to_nothing_is_made_again_ever_more_seldom(
    daemon: DaemonWorld, monkeypatch: Any
) -> None:
    import time

    two_sources(daemon)
    record(daemon, "failed")
    now, cursor, waits = time.time(), None, []
    monkeypatch.setattr(time, "time", lambda: now)
    last = now
    for _ in range(2000):
        data = daemon.tick(SENSOR, cursor)
        cursor = data.cursor
        if asked(data):  # and the run died before it began: no attempt was made
            assert asked(data) == [("repair_drift", "a", "1 of 3")]
            waits.append(now - last)
            last = now
        if len(waits) == 5:
            break
        now += FIRST_RETRY / 2
    assert waits == [0, FIRST_RETRY, FIRST_RETRY * 2, FIRST_RETRY * 4, FIRST_RETRY * 8]
    assert len(cursor or "") < 200


def test_undetermined_is_looked_at_again_and_never_repaired(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, "undetermined", finding="")
    assert asked(daemon.tick(SENSOR)) == []  # a minute first
    age(daemon, FIRST_RETRY + 1)
    assert asked(daemon.tick(SENSOR)) == [("check_source", "a", None)]
    record(daemon, "undetermined", finding="")  # as before
    age(daemon, FIRST_RETRY + 10)
    again = daemon.tick(SENSOR)
    assert asked(again) == [("check_source", "a", None)]
    record(daemon, "undetermined", finding="")  # for more than two minutes now
    age(daemon, FIRST_RETRY + 10)
    assert asked(daemon.tick(SENSOR)) == []
    age(daemon, LAST_RETRY)
    assert asked(daemon.tick(SENSOR)) == [("check_source", "a", None)]
    assert daemon.instance.get_runs_count() == 0


def test_what_repair_cannot_mend_is_not_repaired(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, "failed", check="dense_index_is_as_declared", mend="rag ingest")
    assert asked(daemon.tick(SENSOR)) == []


def test_a_repair_by_hand_is_checked(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, "failed")
    record_repair(daemon.connection, get_source(daemon.connection, "a").id, "by hand")
    assert asked(daemon.tick(SENSOR)) == [("check_source", "a", None)]
    record(daemon, "failed")
    assert asked(daemon.tick(SENSOR)) == [("repair_drift", "a", "2 of 3")]


def test_a_count_that_differs_has_the_full_form_look_once(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, "passed", mend="", finding="")
    record(daemon, "undetermined", form="quick", finding="+1 rows")
    assert asked(daemon.tick(SENSOR)) == [("check_source", "a", None)]
    record(daemon, "passed", mend="", finding="")  # it found nothing: the server counts otherwise
    record(daemon, "undetermined", form="quick", finding="+1 rows")
    assert asked(daemon.tick(SENSOR)) == []
    record(daemon, "undetermined", form="quick", finding="-3 rows")
    assert asked(daemon.tick(SENSOR)) == [("check_source", "a", None)]


def test_an_inactive_source_is_left_alone(daemon: DaemonWorld) -> None:
    two_sources(daemon)
    record(daemon, "failed")
    daemon.connection.execute("UPDATE sources SET is_active = false")
    assert asked(daemon.tick(SENSOR)) == []
