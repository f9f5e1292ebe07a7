"""Runs over several sources, as a backfill launches them."""

from __future__ import annotations

import dagster as dg

from tests.support.world import World

TEXT = (
    "# Hours\n\nThe observatory opens at nine in the morning and closes when the stars come out.\n"
)
VECTORS = ("chunk_embeddings", "dense_vectors")
STAGES = ("source_documents", "documents", "document_chunks", *VECTORS)


def run_range(world: World, job: str, first: str, last: str) -> dg.ExecuteInProcessResult:
    """Run a job over a range, by Dagster's tags. Sources are in the order in which they were added."""
    tags = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    return world.run(job, None, tags=tags, raise_on_error=False)
