"""The sensor that keeps the partitions equal to table `sources`, and fails the runs of dead processes."""

from collections.abc import Collection

import dagster as dg

from rag_assets.automation.dead_runs import fail_dead_runs
from rag_assets.automation.jobs import purge_removed_sources
from rag_assets.automation.run_requests import INTERVAL, is_running
from rag_assets.dagster_internals import failed_checks_of_others
from rag_assets.partitions import SOURCES
from resources.dagster_resources import PostgresResource
from resources.partition_keys import partition_keys, source_name
from resources.postgres.registry.sources import list_sources
from resources.postgres.vectors.outbox import abandoned_deletions


@dg.sensor(
    job=purge_removed_sources,
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes the partitions equal to the table `sources`; requests the deletion of removed sources' vectors. "
    "Fails the runs whose process is gone, which nothing else would end.",
)
def sources_table_sensor(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult | dg.SkipReason:
    dead = fail_dead_runs(context.instance)
    for run in dead:
        context.log.warning(f"The process of run {run} is gone; the run is failed.")
    with postgres.open().connect(autocommit=True) as connection:
        keys = {key for s in list_sources(connection) for key in partition_keys(s.name, s.shards)}
        abandoned = abandoned_deletions(connection)
    partitions = set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
    changes = []
    if keys - partitions:
        changes.append(SOURCES.build_add_request(sorted(keys - partitions)))
    if partitions - keys:
        changes.append(SOURCES.build_delete_request(sorted(partitions - keys)))
    requests = []
    if abandoned and not is_running(context.instance, purge_removed_sources.name, {}):
        requests.append(dg.RunRequest())
    passed = _pass_checks_of_removed(context, keys)
    if not changes and not requests and not passed:
        return dg.SkipReason(_reason(len(keys), len(dead), waiting=bool(abandoned)))
    return dg.SensorResult(
        run_requests=requests, dynamic_partitions_requests=changes, asset_events=passed
    )


def _pass_checks_of_removed(
    context: dg.SensorEvaluationContext, partitions: Collection[str]
) -> list[dg.AssetCheckEvaluation]:
    """Return evaluations that end the failures of sources that were removed: no run of theirs does it."""
    definitions = context.repository_def
    checks = definitions.asset_graph.asset_check_keys if definitions else ()
    return [
        dg.AssetCheckEvaluation(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=True,
            partition=partition,
            description=f"Source {source_name(partition)} was removed; its failure is void.",
        )
        for check, partition in failed_checks_of_others(
            context.instance, list(checks), partitions
        ).items()
    ]


def _reason(partitions: int, dead: int, *, waiting: bool) -> str:
    reasons = [f"The {partitions} partitions equal the table of sources."]
    if dead:
        reasons.append(f"Failed {dead} runs whose process is gone.")
    if waiting:
        reasons.append("A run that deletes the vectors of removed sources is in progress.")
    return " ".join(reasons)
