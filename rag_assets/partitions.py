"""Partitions: one key a source. The only module that knows how a key is written."""

from __future__ import annotations

import re
import warnings

import dagster as dg

from resources.errors import ConfigError

# Used on purpose, and pinned to one version: backfill policies (beta) and partitioned asset checks (preview).
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

SOURCES = dg.DynamicPartitionsDefinition(name="sources")

#: Dagster's tag for the partition of a run.
PARTITION_TAG = "dagster/partition"
#: ... and for the first one of a run over several.
RANGE_TAG = "dagster/asset_partition_range_start"

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


def source_name(key: str) -> str:
    """The source that a partition belongs to."""
    return key
