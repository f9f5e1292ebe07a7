"""How the key of a partition is written: `name` for a source, `name/03-of-16` for a shard of it. Without Dagster.

No other module knows this. The key of a source stands for the whole source, in shards or not; it also names the lock of
its writer.
"""

from __future__ import annotations

import re

from rag_assets.pipeline.plain_text import nfc
from rag_assets.pipeline.shards import Shard
from resources.errors import ConfigError

#: A name stands in partition keys, run tags and Milvus filter expressions: no quotes, no slashes. Python and PostgreSQL
#: read this pattern alike: it is also a constraint of table `sources`. Beyond ASCII every character counts as a letter,
#: except controls, spaces, punctuation, and characters that reverse or hide text.
_LETTER = r"0-9A-Za-z_\u00aa-\u1fff\u2070-\u2fff\u3001-\ud7ff\uf900-\ufefe\uff00-\uffef\U00010000-\U0010ffff"
NAME = rf"[{_LETTER}]([{_LETTER}. -]{{0,98}}[{_LETTER}])?"


def partition_key(source_name: str) -> str:
    """Return the partition of a source. Raises ConfigError for a name that cannot be a key."""
    if not re.fullmatch(NAME, source_name):
        raise ConfigError(
            f"{source_name!r} cannot name a source; expected 1 to 100 letters, digits, '.', '_', '-' or spaces, "
            f"such as {valid_name(source_name) or 'docs'}."
        )
    return source_name


def account_name(name: str) -> str:
    """Return the name of an account in NFC. Raises ConfigError for one that an account cannot have."""
    name = nfc(name)
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"account: expected 1 to 100 letters, digits, '.', '_', '-' or spaces, found {name!r}"
        )
    return name


def valid_name(text: str) -> str:
    """Return the text as the name of a source: other characters become hyphens. Empty if none can stay."""
    return re.sub(rf"[^{_LETTER}.-]+", "-", nfc(text)).strip("-.")[:100].rstrip("-.")


def shard_keys(source_name: str, shards: int) -> list[str]:
    """Return the partitions of a source's shards; empty if the source has no shards."""
    key = partition_key(source_name)
    numbers = range(1, shards + 1) if shards > 1 else ()
    return [f"{key}/{Shard(number, shards)}" for number in numbers]


def partition_keys(source_name: str, shards: int) -> list[str]:
    """Return all partitions of a source: itself, and its shards."""
    return [partition_key(source_name), *shard_keys(source_name, shards)]


def sync_keys(source_name: str, shards: int) -> list[str]:
    """Return the partitions whose syncs together bring a source up to date."""
    return shard_keys(source_name, shards) or [partition_key(source_name)]


def source_name(key: str) -> str:
    """Return the source that a partition belongs to."""
    return key.partition("/")[0]


def shard_of(key: str) -> Shard | None:
    """Return the shard of a partition, or None if the partition is a whole source."""
    number, _, of = key.partition("/")[2].partition("-of-")
    return Shard(int(number), int(of)) if of else None
