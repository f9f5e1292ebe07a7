"""Partitions: a key for each source, and one for each shard of a source in shards (`name/03-of-16`).

The only module that knows how a key is written. The key of a source stands for all of it, in shards or not.
"""

from __future__ import annotations

import re
import warnings

import dagster as dg

from rag_assets.pipeline.shards import Shard
from resources.errors import ConfigError

# Used on purpose, and pinned to one version: backfill policies (beta) and partitioned asset checks (preview).
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

SOURCES = dg.DynamicPartitionsDefinition(name="sources")

#: On the runs that sync the shards of a source together: by the first of them it is listed, for all.
SYNC_TAG = "rag/sync"
#: Dagster's tag for the partition of a run.
PARTITION_TAG = "dagster/partition"
#: ... and for the first and the last one of a run over several.
RANGE_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"

#: The name stands in partition keys, in run tags, and in filter expressions of Milvus: no quotes, no slashes. Written
#: as Python and PostgreSQL both read it: it is a constraint of table `sources`, too. Beyond ASCII everything is a
#: letter but controls, spaces, punctuation and what turns or hides text.
_LETTER = r"0-9A-Za-z_\u00aa-\u1fff\u2070-\u2fff\u3001-\ud7ff\uf900-\ufefe\uff00-\uffef\U00010000-\U0010ffff"
NAME = rf"[{_LETTER}]([{_LETTER}. -]{{0,98}}[{_LETTER}])?"


def partition_key(source_name: str) -> str:
    """The partition of a source. Raises ConfigError for a name that cannot be a key."""
    if not re.fullmatch(NAME, source_name):
        raise ConfigError(
            f"{source_name!r} cannot name a source; expected 1 to 100 letters, digits, '.', '_', '-' or spaces."
        )
    return source_name


def shard_keys(source_name: str, shards: int) -> list[str]:
    """The partitions of a source's shards; none where it is not in shards."""
    key = partition_key(source_name)
    numbers = range(1, shards + 1) if shards > 1 else ()
    return [f"{key}/{Shard(number, shards)}" for number in numbers]


def partition_keys(source_name: str, shards: int) -> list[str]:
    """All partitions of a source: itself, and its shards."""
    return [partition_key(source_name), *shard_keys(source_name, shards)]


def sync_keys(source_name: str, shards: int) -> list[str]:
    """The partitions whose syncs, side by side, bring a source up to date."""
    return shard_keys(source_name, shards) or [partition_key(source_name)]


def source_name(key: str) -> str:
    """The source that a partition belongs to."""
    return key.partition("/")[0]


def shard_of(key: str) -> Shard | None:
    """The shard that a partition is; None: it is a whole source."""
    number, _, of = key.partition("/")[2].partition("-of-")
    return Shard(int(number), int(of)) if of else None
