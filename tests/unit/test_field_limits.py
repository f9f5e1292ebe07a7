"""The lengths of a document's fields, and what is recorded of longer ones."""

from __future__ import annotations

from rag_assets.pipeline.field_limits import FILTER_TAGS, cut_fields
from resources.milvus.collections import TAGS
from resources.sources.envelope import source_fields


def test_fields_within_their_limits_leave_nothing_out() -> None:
    assert cut_fields("é" * 255, "é" * 100, ["é" * 100] * 64) == []
    assert cut_fields(None, None, None) == []


def test_a_sentence_records_each_cut() -> None:
    assert cut_fields("a" * 256, "c" * 110, ["t" * 101, *("t" for _ in range(64)), "t" * 101]) == [
        "1 characters of the author, which keeps its first 255",
        "10 characters of the category, which keeps its first 100",
        "2 of 66 tags from filters, which compare the first 64",
        "the ends of 1 tag from filters, which compare 100 characters of a tag",
    ]


def test_the_fields_of_a_source_are_recorded_too() -> None:
    fields = source_fields({"author": "a" * 300, "category": "c" * 120, "tags": ["t"]})
    assert len(fields.left_out) == 2
    assert (len(fields.author or ""), len(fields.category or "")) == (255, 100)


def test_milvus_has_room_for_the_tags() -> None:
    assert FILTER_TAGS == TAGS
