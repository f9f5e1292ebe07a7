"""A run over several sources, as a backfill launches it: one run, evidence for each source, each gets its turn."""

from __future__ import annotations

import shutil

import dagster as dg
import pytest

from rag_assets.definitions import build_definitions
from tests.conftest import World
from tests.oracle import disagreements

TEXT = (
    "# Hours\n\nThe observatory opens at nine in the morning and closes when the stars come out.\n"
)


def run_range(world: World, job: str, first: str, last: str) -> dg.ExecuteInProcessResult:
    """Dagster's own tags for a range; sources are ordered as they were added."""
    return (
        build_definitions(world.resources)
        .resolve_job_def(job)
        .execute_in_process(
            instance=world.instance,
            tags={
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
    )


@pytest.fixture
def sources(world: World) -> World:
    for name in ("a", "b"):
        world.write({f"{name}.md": TEXT + name}, name)
        world.add(name)
    return world


def test_a_range_is_one_run_with_evidence_for_each_source(sources: World) -> None:
    result = run_range(sources, "sync_source", "a", "b")
    assert result.success
    plans = {
        (found.asset_key.to_user_string(), found.partition): found.metadata["plan"].value
        for event in result.all_events
        if event.is_step_materialization
        for found in [event.step_materialization_data.materialization]
    }
    assert {partition for _, partition in plans} == {"a", "b"}
    assert len(plans) == 14  # seven assets
    for name in ("a", "b"):
        assert plans["documents", name]["inserted"] == 1  # pyright: ignore
        assert plans["dense_vectors", name]["inserted"] == 1  # pyright: ignore
    assert disagreements(sources.settings.postgres_url, sources.settings.milvus_uri) == []


def test_checks_of_a_range_say_which_source_fails(sources: World) -> None:
    assert run_range(sources, "sync_source", "a", "b").success
    fine = run_range(sources, "check_source", "a", "b").get_asset_check_evaluations()
    assert len(fine) == 20
    assert all(found.passed for found in fine)
    sources.connection.execute(
        "UPDATE documents SET indexing_status = 'indexing' WHERE source_key = 'b.md'"
    )
    found = run_range(sources, "check_source", "a", "b").get_asset_check_evaluations()
    failed = {item.check_name: item.description or "" for item in found if not item.passed}
    assert set(failed) == {"statuses_agree"}
    assert failed["statuses_agree"].startswith("b: ")
    assert "\n" not in failed["statuses_agree"]  # nothing of a, which passes


def test_a_source_that_fails_does_not_take_the_others_turn(sources: World) -> None:
    shutil.rmtree(sources.folder / "a")
    result = run_range(sources, "sync_source", "a", "b")
    assert not result.success
    message = "".join(
        event.step_failure_data.user_failure_data.description or ""
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    )
    assert message.startswith("a: ")
    assert "\nb: " not in message
    recorded = sources.connection.execute(
        "SELECT name, sync_status FROM sources ORDER BY name"
    ).fetchall()
    assert recorded == [("a", "failed"), ("b", "pending")]  # the run ended before b was indexed
    assert sources.one("SELECT string_agg(key, ' ') FROM source_entries") == "b.md"
    assert sources.sync("b")["dense_vectors"]["inserted"] == 1
