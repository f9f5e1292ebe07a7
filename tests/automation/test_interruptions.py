"""Runs that end from outside, and runs whose source is gone when they start: they end once, and say why."""

import logging
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from rag_assets.assets import interruptions
from rag_assets.assets.failures import as_stage_error, errors_as_failures
from rag_assets.assets.interruptions import ending_when_interrupted
from rag_assets.assets.run_stage import COMMON
from rag_assets.partitions import MAX_RETRIES_TAG, PARTITION_TAG, SOURCES
from resources.errors import ConfigError
from resources.run_processes import COMMAND_TAG
from tests.support.world import World

LOG = logging.getLogger("test")
TEXT = "# Hours\n\nThe observatory opens at nine in the morning.\n"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(autouse=True)
def forget_interruptions() -> Iterator[None]:
    yield
    interruptions._interrupted.clear()


# Interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [ending_when_interrupted, errors_as_failures])
@pytest.mark.parametrize(
    ("end", "tags", "status"),
    [
        # A person terminates it in Dagster, also by force.
        ("report_run_canceling", {}, "CANCELED"),
        ("report_run_canceled", {}, "CANCELED"),
        # A person ends the command.
        ("", {COMMAND_TAG: "ingest"}, "CANCELED"),
        # Dagster itself is stopped.
        ("", {}, "FAILURE"),
    ],
)
def test_an_interrupted_run_starts_no_other_step_and_stays_canceled(
    wrapper: Any, end: str, tags: dict[str, str], status: str
) -> None:
    started: list[str] = []

    @dg.asset(retry_policy=COMMON["retry_policy"])
    def first(context: dg.AssetExecutionContext) -> None:
        started.append("first")
        with wrapper(context):
            if end:
                getattr(context.instance, end)(context.run)
            raise DagsterExecutionInterruptedError

    @dg.asset
    def beside() -> None:
        started.append("beside")

    @dg.asset(deps=[first])
    def below() -> None:
        started.append("below")

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [first, below, beside],
            instance=instance,
            tags=tags,
            run_config=QUIET,
            raise_on_error=False,
        )
        (run,) = instance.get_runs()
    assert run.status.value == status
    # In the order of their names if nothing else decides.
    assert started in (["first"], ["beside", "first"])
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_a_step_of_a_run_that_was_canceled_elsewhere_does_not_begin() -> None:
    """A process whose code server is gone is not told of the end of its run."""
    started: list[str] = []

    @dg.asset
    def first(context: dg.AssetExecutionContext) -> None:
        context.instance.report_run_canceled(context.run)

    @dg.asset(deps=[first], retry_policy=COMMON["retry_policy"])
    def second(context: dg.AssetExecutionContext) -> None:
        with ending_when_interrupted(context):
            started.append("second")

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([first, second], instance=instance, run_config=QUIET, raise_on_error=False)
        (run,) = instance.get_runs()
    assert (started, run.status.value) == ([], "CANCELED")


# Errors ------------------------------------------------------------------------------------------------------------


def test_an_error_that_no_stage_expects_is_tried_again_only_if_it_may_come_from_outside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for error in (
        KeyError("id"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        TypeError("None"),
    ):
        converted = as_stage_error(error, LOG)
        assert not converted.transient
        assert str(converted).startswith(f"unexpected {type(error).__name__}: ")
        # The message promises the traceback.
        assert type(error).__name__ in caplog.messages[-1]
    assert as_stage_error(ConnectionResetError("Connection reset by peer"), LOG).transient
    known = ConfigError("Expected a folder.")
    assert as_stage_error(known, LOG) is known


# Runs that waited --------------------------------------------------------------------------------------------------


def failure_of(world: World, job: str, partition: str) -> str:
    """Run a job that fails once. Returns the first line of the reason."""
    result = world.run(job, None, tags={PARTITION_TAG: partition}, raise_on_error=False)
    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    (data, *_) = (event.step_failure_data for event in result.all_events if event.is_step_failure)
    assert data.user_failure_data is not None
    return (data.user_failure_data.description or "").splitlines()[0]


def test_a_run_of_a_removed_source_says_so_and_is_not_started_again(world: World) -> None:
    world.add("docs")
    world.connection.execute("DELETE FROM sources")
    # The sensor removes the partition within half a minute.
    for remove in (
        lambda: None,
        lambda: world.instance.delete_dynamic_partition("sources", "docs"),
    ):
        remove()
        for job in ("sync_source", "check_source_quickly", "repair_drift"):
            reason = failure_of(world, job, "docs")
            assert "Source docs was removed after this run was requested" in reason, job
            assert "rag sources add docs" in reason
        (checked,) = world.instance.get_runs(
            dg.RunsFilter(job_name="check_source_quickly"), limit=1
        )
        assert checked.tags[MAX_RETRIES_TAG] == "0"


def test_a_run_reads_the_source_that_has_its_name_now(world: World) -> None:
    world.write({"old.md": TEXT + "old"}, "old")
    world.write({"new.md": TEXT + "new"}, "new")
    name = SOURCES.name or ""
    for folder in ("old", "new"):
        world.connection.execute("DELETE FROM sources")
        world.register("docs", "folder", {"path": str(world.folder / folder)})
    world.instance.delete_dynamic_partition(name, "docs")
    plans = world.run("sync_source", None, tags={PARTITION_TAG: "docs"})
    assert plans.success
    keys = world.connection.execute("SELECT source_key FROM documents").fetchall()
    assert keys == [("new.md",)]
    assert world.instance.has_dynamic_partition(name, "docs")


def test_a_run_of_a_shard_that_is_gone_says_so(world: World) -> None:
    world.add("docs", shards=4)
    world.connection.execute(
        "UPDATE sources SET connection_config = connection_config || '{\"shards\": 2}'"
    )
    for remove in (False, True):
        if remove:
            world.instance.delete_dynamic_partition("sources", "docs/03-of-04")
        reason = failure_of(world, "sync_source", "docs/03-of-04")
        assert "docs/03-of-04 is no partition of docs, which has 2 shards" in reason
        assert reason.endswith("rag ingest docs")
