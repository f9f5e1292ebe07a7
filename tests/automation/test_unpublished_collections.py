"""unpublished_collections_sensor on real stores: when it requests the publication, and when it waits."""

from __future__ import annotations

import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from rag_assets.automation.run_requests import FIRST_RETRY
from rag_assets.job_runs import failures
from tests.support.daemon import DaemonWorld, in_progress, older, two_synced_sources
from tests.support.stored import collection_states

SENSOR, JOB = "unpublished_collections_sensor", "publish_collections"
#: The only key of the sensor's cursor.
KEY = "collections"


def requests(data: SensorExecutionData) -> int:
    """The number of requests; each must be launchable, and not retried."""
    for request in data.run_requests or []:
        assert request.tags["dagster/max_retries"] == "0"
    return len(data.run_requests or [])


@pytest.fixture
def changed(daemon: DaemonWorld) -> DaemonWorld:
    """Two sources synced under a model, with another model configured."""
    two_synced_sources(daemon)
    return daemon.configured(embedder="tests.support.embedders:CountingEmbedder")


def test_a_publication_is_requested_once_when_every_source_is_synced_and_none_runs(
    changed: DaemonWorld,
) -> None:
    before = changed.store.alias_target("dense")
    assert requests(changed.tick(SENSOR)) == 0
    changed.fill("a")
    incomplete = changed.tick(SENSOR)
    assert requests(incomplete) == 0
    assert incomplete.skip_message == "No collection waits for its publication."
    changed.fill("b")
    run = in_progress(changed, JOB, {})
    waiting = changed.tick(SENSOR, incomplete.cursor)
    assert requests(waiting) == 0
    changed.instance.report_run_failed(run)
    # Nothing was requested yet, so the first request needs no interval.
    first = changed.tick(SENSOR, waiting.cursor)
    assert requests(first) == 1
    assert requests(changed.tick(SENSOR, first.cursor)) == 0
    assert changed.store.alias_target("dense") == before
    assert changed.launch(JOB, dict((first.run_requests or [])[0].tags)).success
    assert changed.store.alias_target("dense") != before
    assert requests(changed.tick(SENSOR, older(first.cursor, KEY, 10 * FIRST_RETRY))) == 0


def test_a_refused_publication_is_requested_again_at_growing_intervals(
    changed: DaemonWorld,
) -> None:
    for name in ("a", "b"):
        changed.fill(name)
    (new,) = (name for name, state in collection_states(changed).items() if state == "building")
    (lost, *_) = changed.store.client.query(new, filter='id >= ""', output_fields=["*"], limit=1)
    changed.store.client.delete(new, ids=[lost["id"]])

    first = changed.tick(SENSOR)
    assert requests(first) == 1
    refused = changed.launch(JOB, dict((first.run_requests or [])[0].tags))
    ((_, message),) = failures(refused)
    assert "1 missing" in message and "keep serving" in message
    assert requests(changed.tick(SENSOR, first.cursor)) == 0
    second = changed.tick(SENSOR, older(first.cursor, KEY, FIRST_RETRY + 1))
    assert requests(second) == 1
    # Twice as long now.
    soon = changed.tick(SENSOR, older(second.cursor, KEY, FIRST_RETRY + 1))
    assert requests(soon) == 0
    assert requests(changed.tick(SENSOR, older(soon.cursor, KEY, FIRST_RETRY + 1))) == 1

    changed.store.client.upsert(new, [dict(lost)])
    assert changed.launch(JOB, {}).success
    assert collection_states(changed) == {new: "serving"}
