"""What a sync would do to a source's documents, found by listing it. Fetches, embeds and writes nothing."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field

from rag_assets.ingestion.fetch import listed_entries
from rag_assets.ingestion.guard import check_deletions
from rag_assets.pipeline.limits import DeletionLimits
from rag_assets.pipeline.plan import Plan
from resources.errors import DeletionGuard
from resources.postgres.connection import Connection
from resources.postgres.registry.entries import (
    count_entries,
    count_staged,
    stage_listing,
)
from resources.postgres.registry.sources import SourceRow
from resources.sources.registered import open_registered


@dataclass(frozen=True)
class Preview:
    """`plan`: of the documents. A changed document counts as replaced, though its text may turn out to be the same.

    `bytes`: of the documents to fetch, as far as the source states sizes. `refused`: why a sync would stop instead.
    """

    plan: Plan = field(default_factory=Plan)
    bytes: int = 0
    refused: str = ""


def preview(connection: Connection, source: SourceRow, limits: DeletionLimits | None) -> Preview:
    """Compare a source's listing with the recorded entries. `source` need not be registered.

    Raises SourceError if the source cannot be listed.
    """
    with closing(open_registered(source)) as opened:
        plan, _ = stage_listing(connection, source.id, listed_entries(source.name, opened))
        incomplete = opened.incomplete
    plan.inserted, plan.replaced, size = count_staged(connection)
    if incomplete:
        plan.deleted = 0
    listed = plan.kept
    plan.kept = listed - plan.inserted - plan.replaced
    try:
        if limits is not None and not incomplete:
            recorded = count_entries(connection, source.id)
            check_deletions(source.name, limits, listed, plan.deleted, recorded)
    except DeletionGuard as guard:
        return Preview(plan, size, str(guard))
    return Preview(plan, size)
