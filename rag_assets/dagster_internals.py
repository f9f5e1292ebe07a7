"""What uses private parts of Dagster, so that an upgrade of Dagster is the work of this file and `dagster_storage`.

`tests/automation/test_dagster_internals.py` fails where such a part changed. Importing this module starts nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._utils.schedules import get_smallest_cron_interval

from rag_assets.partitions import PARTITION_TAG

__all__ = [
    "BACKFILL_ID_TAG",
    "DagsterExecutionInterruptedError",
    "RunInterrupted",
    "add_partition_metadata",
    "default_freshness_policy",
    "failed_checks_of_others",
    "last_assets",
    "materialize_only",
    "syncs",
]


class RunInterrupted(DagsterExecutionInterruptedError, dg.DagsterError):
    """The end of a run that a person or its process ended: no other step begins.

    Dagster's own interruption is retried by a step with a retry policy. An error of Dagster is not, and the run then
    ends as an interrupted one: canceled if a person ended it.
    """


def add_partition_metadata(
    context: dg.AssetExecutionContext, metadata_by_partition: Mapping[str, Mapping[str, Any]]
) -> None:
    """Add metadata to the materialization of each partition.

    `context.add_asset_metadata` does the same, and queries Dagster's database three times (5 ms) per partition.
    """
    step = context.get_step_execution_context()
    for key, metadata in metadata_by_partition.items():
        step._metadata_accumulator = step._metadata_accumulator.with_additional_asset_metadata(
            asset_key=context.asset_key, partition_key=key, metadata=metadata
        )


def materialize_only(context: dg.AssetExecutionContext, partitions: Sequence[str]) -> None:
    """Make the output of this step materialize only these partitions of its run.

    Dagster's backfills understand a run that materialized some partitions of its range and failed for the others, but
    nothing public lets a step yield that.
    """
    step = context.get_step_execution_context()
    make, subset = step.get_output_context, DefaultPartitionsSubset(set(partitions))

    def get_output_context(*args: Any, **options: Any) -> Any:
        output = make(*args, **options)
        output._asset_partitions_subset = subset
        return output

    step.get_output_context = get_output_context


def failed_checks_of_others(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partitions: Collection[str]
) -> dict[dg.AssetCheckKey, str]:
    """Return the checks whose last execution failed for a partition that is not one of these, and that partition.

    The UI shows the last execution of a check, so it stays red after its partition is gone.
    """
    failed = ("FAILED", "EXECUTION_FAILED")
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    red = {key: record for key, record in latest.items() if record.status.value in failed}
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in {r.run_id for r in red.values()}}
    found = {}
    for key, record in red.items():
        run = runs[record.run_id]
        partition = record.partition or (run.tags.get(PARTITION_TAG) if run else None)
        if partition is not None and partition not in partitions:
            found[key] = partition
    return found


def syncs(context: dg.AssetCheckExecutionContext) -> bool:
    """Return whether the run of a check also materializes assets."""
    step = context.op_execution_context.get_step_execution_context()
    assets = {key.to_user_string() for key in step.job_def.asset_layer.executable_asset_keys}
    return not assets.isdisjoint(step.execution_plan.step_keys_to_execute)


def last_assets(context: dg.AssetExecutionContext) -> set[str]:
    """Return the assets with this one's partitions that have no other such asset of this run downstream."""
    step = context.get_step_execution_context()
    layer, partitions = step.job_def.asset_layer, context.assets_def.partitions_def
    assets = {
        key.to_user_string()
        for key in layer.executable_asset_keys
        if layer.get(key).partitions_def == partitions
    }
    # Steps of assets are named for them. A check between two assets connects them.
    needs = step.execution_plan.get_executable_step_deps()
    upstream: set[str] = set()
    found = {needed for key in assets & needs.keys() for needed in needs[key]}
    while found:
        upstream |= found
        found = {needed for key in found for needed in needs[key]} - upstream
    return (assets & needs.keys()) - upstream


# Dagster looks at the next thousand ticks: 0.1 s, at each assembly of the definitions.
@cache
def default_freshness_policy(cron: str, timezone: str) -> dg.FreshnessPolicy:
    """Return the policy of an asset of which some partition is to be materialized at each tick.

    Dagster judges the asset as a whole: it is fresh if any partition was materialized since the tick before last.
    """
    return dg.FreshnessPolicy.cron(
        deadline_cron=cron,
        lower_bound_delta=get_smallest_cron_interval(cron, timezone),
        timezone=timezone,
    )
