"""How `rag ingest` answers for sources with nothing to do: without Dagster, whose imports and events take seconds."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rag_assets.cli.syncs import Report, add_facts
from rag_assets.deployment import Deployment

log = logging.getLogger("rag_assets.up_to_date")


def reports_of_up_to_date(deployment: Deployment, names: Sequence[str]) -> dict[str, Report]:
    """Return source -> report of the sources for which a sync has nothing to do, and record that they are up to date.

    Empty after any error: the syncs meet it again and report it.
    """
    from rag_assets.ingestion.up_to_date import find_up_to_date
    from rag_assets.pipeline.chunking import ChunkingConfig
    from rag_assets.pipeline.limits import ParserLimits
    from resources.partition_keys import sync_keys
    from resources.postgres.registry.sources import get_source

    settings = deployment.settings
    try:
        with (
            deployment.open_vectors() as stores,
            deployment.postgres().connect(autocommit=True) as connection,
        ):
            rows = {name: get_source(connection, name) for name in names}
            found = find_up_to_date(
                connection,
                rows,
                ParserLimits(settings.parsers, settings.parse_seconds, settings.parse_memory_mib),
                ChunkingConfig(settings.chunk_max_chars, settings.chunk_min_chars),
                stores,
                log,
            )
    # Of any type: whatever goes wrong here, the sync of each source meets it again and reports it.
    except Exception as error:
        log.debug(
            "Whether there is anything to do is not known, so each source is synced: %s", error
        )
        return {}
    reports = {
        name: Report(
            name,
            sync_keys(name, rows[name].shards),
            {asset: outcome.plan.as_dict() for asset, outcome in source.outcomes.items()},
            {asset: round(seconds, 3) for asset, seconds in source.seconds.items()},
        )
        for name, source in found.items()
    }
    if reports:
        add_facts(deployment, reports)
    return reports
