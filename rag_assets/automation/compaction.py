"""The job that compacts embedding files, and its schedule."""

import dagster as dg

from rag_assets.automation.jobs import MAX_RUNTIME
from rag_assets.settings.load import load_settings

compact_embeddings = dg.define_asset_job(
    "compact_embeddings",
    selection=dg.AssetSelection.groups("maintenance"),
    description="Puts small and mostly dead embedding files together, without a model call. Syncs go on meanwhile.",
    tags=MAX_RUNTIME,
)

weekly_compaction = dg.ScheduleDefinition(
    name="weekly_compaction",
    job=compact_embeddings,
    cron_schedule=load_settings().compaction_schedule,
    execution_timezone=load_settings().timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Compacts the embedding files, on Sundays at 04:00 by default.",
)
