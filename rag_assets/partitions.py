"""Dagster's partitions of the sources, and the tags of runs. How a key is written: `resources/partition_keys.py`."""

from __future__ import annotations

import warnings

import dagster as dg

# Used on purpose, and pinned to one version: backfill policies (beta) and partitioned asset checks (preview).
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

SOURCES = dg.DynamicPartitionsDefinition(name="sources")

#: Tag of the runs that sync the shards of one source together: the first of them lists the source for all.
SYNC_TAG = "rag/sync"
#: Dagster's tag for the partition of a run.
PARTITION_TAG = "dagster/partition"
#: Tag for the number of times that a failed step may run again in the same run, if not as often as its policy allows.
STEP_RETRIES_TAG = "rag/step_retries"
#: Dagster's tag for the number of times that its daemon may start a failed run again.
MAX_RETRIES_TAG = "dagster/max_retries"
#: Dagster's tags for the first and last partition of a run over several.
RANGE_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
