"""The check that each source is synced on its schedule. The sensor of due sources reports it too.

Dagster's freshness policies judge an asset as a whole: one source in time would hide the others. So the asset has a
policy from the default schedule, and each source this check. It is not in `check_source` and not stored in
`check_results`: a late source is consistent, and neither a repair nor another check would help.
"""

from datetime import UTC, datetime
from functools import cache

import dagster as dg

from rag_assets.checks.results import check_each_source
from rag_assets.consistency import sync_findings
from rag_assets.consistency.finding import Finding, not_applicable
from rag_assets.partitions import SOURCES
from rag_assets.settings.load import load_settings
from rag_assets.settings.schedules import timetable
from resources.dagster_resources import PostgresResource
from resources.postgres.connection import Connection
from resources.postgres.registry.syncs import SyncState, sync_states

ASSET, NAME = "source_documents", "synced_on_schedule"


@dg.asset_check(
    asset=ASSET,
    name=NAME,
    description="The source's last complete sync is as young as its schedule (or the default one) demands.",
    partitions_def=SOURCES,
)
def synced_on_schedule(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource
) -> dg.AssetCheckResult:
    now, table = datetime.now(UTC), timetable(load_settings())

    @cache
    def states(connection: Connection) -> dict[str, SyncState]:
        return {state.name: state for state in sync_states(connection)}

    def of_source(connection: Connection, name: str) -> Finding:
        state = states(connection).get(name)
        if state is None:
            return not_applicable(f"{name} is not active, so it is not synced.")
        return sync_findings.synced_on_schedule(state, table, now)

    return check_each_source(context, postgres, of_source, stored=False)
