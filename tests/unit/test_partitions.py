"""Partition keys: the names of sources, in every script, without characters that could break a filter expression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.cli.syncs import ranges
from resources.errors import ConfigError
from resources.milvus.rows import source_filter
from resources.partition_keys import partition_key, source_name

NAMES = ["a", "docs", "my docs", "a.b-c_d", "資料", "مستندات", "문서 2026", "v1.2", "x" * 100]


@pytest.mark.parametrize("name", NAMES)
def test_names_become_keys_and_names_again(name: str) -> None:
    assert source_name(partition_key(name)) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", " a", "a ", ".a", "a.", "a/b", "a\\b", 'a"b', "a'b", "a\n", "a\tb", "a,b", "a*", "x" * 101],
)  # fmt: skip
def test_an_invalid_key_is_rejected_and_named(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        partition_key(name)
    assert repr(name) in str(error.value)


@given(st.text(max_size=101))
def test_no_key_breaks_out_of_a_filter(name: str) -> None:
    try:
        key = partition_key(name)
    except ConfigError:
        return
    assert not set(key) & set("\"'\\/\n\r\t")
    assert 1 <= len(key) <= 100 and len(key.encode()) <= 1020
    assert source_filter(source_name(key)) == f'source == "{name}"'


def test_adjacent_partitions_are_synced_together() -> None:
    partitions = ["a", "b", "paused", "c", "big", "big/01-of-02", "big/02-of-02", "d", "e"]
    assert ranges(partitions, {"e", "a", "c", "b", "d"}) == [["a", "b"], ["c"], ["d", "e"]]
    assert ranges(partitions, set()) == []
