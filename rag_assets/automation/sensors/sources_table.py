"""The sensor that keeps the partitions equal to the table `sources`, and fails the runs of dead processes."""

import dagster as dg

from rag_assets.automation.dead_runs import fail_dead_runs
from rag_assets.automation.jobs import purge_removed_sources
from rag_assets.automation.run_requests import INTERVAL, busy
from rag_assets.partitions import SOURCES, partition_keys
from resources.dagster_resources import PostgresResource
from resources.postgres.registry.sources import list_sources
from resources.postgres.vectors.vectors import abandoned_deletions


@dg.sensor(
    job=purge_removed_sources,
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes the partitions equal to the table `sources`; has the vectors of removed ones deleted. "
    "Fails the runs whose process is gone, which nothing else would end.",
)
def sources_table_sensor(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult:
    for run in fail_dead_runs(context.instance):
        context.log.warning(f"The process of run {run} is gone; the run is failed.")
    with postgres.open().connect(autocommit=True) as connection:
        wanted = {key for s in list_sources(connection) for key in partition_keys(s.name, s.shards)}
        abandoned = abandoned_deletions(connection)
    known = set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
    changes = []
    if wanted - known:
        changes.append(SOURCES.build_add_request(sorted(wanted - known)))
    if known - wanted:
        changes.append(SOURCES.build_delete_request(sorted(known - wanted)))
    requests = []
    if abandoned and not busy(context.instance, purge_removed_sources.name, {}):
        requests.append(dg.RunRequest())
    return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=changes)
