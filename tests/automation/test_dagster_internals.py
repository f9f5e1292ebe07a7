"""The private parts of Dagster that `dagster_internals.py` uses. An upgrade that changes one fails here first."""

import inspect
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.freshness import CronFreshnessPolicy
from dagster._core.instance.utils import _get_event_batch_size
from dagster._core.storage import tags
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage

from rag_assets import partitions
from rag_assets.dagster_internals import (
    BACKFILL_ID_TAG,
    DagsterExecutionInterruptedError,
    add_partition_metadata,
    default_freshness_policy,
    last_assets,
    materialize_only,
)
from rag_assets.dagster_storage import StackPostgresStorage

KEYS = dg.StaticPartitionsDefinition(["a", "b"])


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _materialized_metadata(asset: dg.AssetsDefinition) -> dict[str | None, dict[str, Any]]:
    """Return partition -> metadata of a run over both partitions."""
    result = dg.materialize(
        [asset],
        tags={partitions.RANGE_TAG: "a", partitions.RANGE_END_TAG: "b"},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    materializations = [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.is_step_materialization
    ]
    return {
        materialization.partition: {
            name: value.value
            for name, value in materialization.metadata.items()
            if not name.startswith("dagster/")
        }
        for materialization in materializations
    }


def test_metadata_of_partitions_is_as_if_dagster_had_added_it() -> None:
    metadata = {key: {"rows": number} for number, key in enumerate(("a", "b"))}

    @dg.asset(partitions_def=KEYS, backfill_policy=dg.BackfillPolicy.single_run())
    def ours(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        add_partition_metadata(context, metadata)
        return dg.MaterializeResult()

    @dg.asset(partitions_def=KEYS, backfill_policy=dg.BackfillPolicy.single_run())
    def theirs(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for key, values in metadata.items():
            context.add_asset_metadata(values, partition_key=key)
        return dg.MaterializeResult()

    assert _materialized_metadata(ours) == _materialized_metadata(theirs) == metadata


def test_a_run_goes_on_without_the_partitions_that_failed() -> None:
    """Only "b" fails, in the first asset; the last one fails the run, and "a" is materialized everywhere."""

    @dg.asset(partitions_def=KEYS, backfill_policy=dg.BackfillPolicy.single_run())
    def first(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        assert last_assets(context) == {"last", "also_last"}
        materialize_only(context, ["a"])
        add_partition_metadata(context, {"a": {"rows": 1}})
        yield dg.MaterializeResult(metadata={"total": 3})

    @dg.asset(partitions_def=KEYS, deps=[first], backfill_policy=dg.BackfillPolicy.single_run())
    def last(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        assert last_assets(context) == {"last", "also_last"}
        materialize_only(context, ["a"])
        yield dg.MaterializeResult()
        raise dg.Failure("b")

    @dg.asset(partitions_def=KEYS, deps=[first], backfill_policy=dg.BackfillPolicy.single_run())
    def also_last(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        materialize_only(context, ["a"])
        yield dg.MaterializeResult()

    @dg.asset(deps=[also_last])
    def of_no_partition() -> None: ...

    @dg.asset_check(asset=first, partitions_def=KEYS, blocking=True)
    def a_check_is_no_asset() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    result = dg.materialize(
        [first, last, also_last, of_no_partition, a_check_is_no_asset],
        tags={partitions.RANGE_TAG: "a", partitions.RANGE_END_TAG: "b"},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    assert not result.success
    materialized = [
        (item.asset_key.to_user_string(), item.partition, item.metadata.get("total"))
        for event in result.all_events
        if event.is_step_materialization
        for item in [event.step_materialization_data.materialization]
    ]
    total = dg.MetadataValue.int(3)
    assert sorted(materialized, key=str) == [
        ("also_last", "a", None),
        ("first", "a", total),
        ("last", "a", None),
        ("of_no_partition", None, None),
    ]


def test_a_freshness_policy_allows_one_interval_of_the_schedule() -> None:
    policy = default_freshness_policy("0 2 * * *", "Asia/Tokyo")
    assert isinstance(policy, CronFreshnessPolicy)
    assert (policy.deadline_cron, policy.timezone) == ("0 2 * * *", "Asia/Tokyo")
    assert policy.lower_bound_delta == timedelta(days=1)
    hourly = default_freshness_policy("0 * * * *", "UTC")
    assert isinstance(hourly, CronFreshnessPolicy)
    assert hourly.lower_bound_delta == timedelta(hours=1)


def test_an_interrupted_step_raises_what_no_error_handler_catches() -> None:
    assert issubclass(DagsterExecutionInterruptedError, BaseException)
    assert not issubclass(DagsterExecutionInterruptedError, Exception)


def test_the_names_of_dagsters_tags() -> None:
    assert BACKFILL_ID_TAG == "dagster/backfill"
    assert partitions.PARTITION_TAG == tags.PARTITION_NAME_TAG
    assert partitions.RANGE_TAG == tags.ASSET_PARTITION_RANGE_START_TAG
    assert partitions.RANGE_END_TAG == tags.ASSET_PARTITION_RANGE_END_TAG
    assert tags.MAX_RUNTIME_SECONDS_TAG == "dagster/max_runtime"
    assert tags.MAX_RETRIES_TAG == "dagster/max_retries"
    assert tags.RETRY_ON_ASSET_OR_OP_FAILURE_TAG == "dagster/retry_on_asset_or_op_failure"
    # The UI hides tags with this prefix.
    assert tags.HIDDEN_TAG_PREFIX == ".dagster/"


def test_the_storage_overrides_methods_that_exist() -> None:
    """That it works is tested on a real server, in tests/stores/test_dagster_storage.py."""
    events = PostgresEventLogStorage
    assert _parameters(events.store_event_batch) == ["self", "events"]
    assert _parameters(events.prepare_insert_event_batch) == ["self", "events"]
    assert _parameters(events._store_asset_event) == ["self", "conn", "event", "event_id"]
    runless = events._store_runless_asset_check_evaluation
    assert _parameters(runless) == ["self", "event", "event_id"]
    handle = PostgresRunStorage.handle_run_event
    assert _parameters(handle) == ["self", "run_id", "event", "update_timestamp"]
    assert _parameters(events._connect) == ["self"]
    assert _parameters(events.index_transaction) == ["self"]
    assert _parameters(events.__init__)[:3] == ["self", "postgres_url", "should_autocreate_tables"]
    source = inspect.getsource(DagsterPostgresStorage)
    assert "_event_log_storage" in source and "_run_storage" in source
    for storage in (events, PostgresRunStorage, PostgresScheduleStorage):
        assert "self._engine = create_pg_engine(" in inspect.getsource(storage.__init__)
    assert StackPostgresStorage.config_type() == {}


def test_the_size_of_event_batches_is_read_from_the_environment(monkeypatch: Any) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "250")
    assert _get_event_batch_size() == 250
