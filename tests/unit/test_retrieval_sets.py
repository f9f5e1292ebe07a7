"""Retrieval sets: files that users provide, and questions generated from texts."""

from __future__ import annotations

import pytest

from rag_assets.pipeline.known_items import LONGEST, frequencies, known_item_query
from rag_assets.pipeline.retrieval_sets import Judgement, read_judgements, read_queries

QUERIES = {"q1": "When does it open?", "q2": "Who closes it?"}


def test_files_in_beirs_layout_are_read() -> None:
    lines = ['{"_id": "q1", "text": "When does it open?"}\n', "\n", '{"id": 2, "text": "Who?"}']
    assert read_queries(lines) == {"q1": "When does it open?", "2": "Who?"}
    rows = ["query-id\tcorpus-id\tscore\n", "q1\ta b.md\t2\n", "q2\tc.md\t0\n", "\n"]
    assert read_judgements(rows, QUERIES) == [Judgement("q1", "a b.md", 2)]
    rows = ["query-id\tcorpus-id\tscore\tstart\tend\n", "q1\ta.md\t1\t3\t9\n"]
    assert read_judgements(rows, QUERIES) == [Judgement("q1", "a.md", 1, (3, 9))]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "expected one query per line, found none"),
        (["not json"], 'line 1: expected {"_id": …, "text": …}, found \'not json\''),
        (['{"_id": "q", "text": " "}'], "line 1: expected"),
        (['["q"]'], "line 1: expected"),
        (['{"_id": 1, "text": "a"}', '{"_id": 1, "text": "b"}'], "line 2: query 1 occurs twice"),
        (["x"] * 30, "and 20 more"),
    ],
)
def test_an_invalid_query_is_named_with_its_line(lines: list[str], expected: str) -> None:
    with pytest.raises(ValueError) as error:
        read_queries(lines)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["q1\ta.md\t1"], "line 1: expected the columns query-id, corpus-id, score"),
        (["query-id\tcorpus-id\tscore"], "found none"),
        (["query-id\tcorpus-id\tscore", "q1\ta.md"], "line 2: expected query-id, corpus-id, score"),
        (["query-id\tcorpus-id\tscore", "q1\ta.md\thigh"], "score, start and end as whole numbers"),
        (["query-id\tcorpus-id\tscore", "q9\ta.md\t1"], "line 2: query 'q9' is not among"),
        (["query-id\tcorpus-id\tscore\tstart\tend", "q1\ta.md\t1\t9\t9"], "start < end"),
    ],
)
def test_an_invalid_judgement_is_named_with_its_line(lines: list[str], expected: str) -> None:
    with pytest.raises(ValueError) as error:
        read_judgements(lines, QUERIES)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("common", "rare"),
    [
        ("The observatory opens at nine in the evening.", "Quokkas guard the mercury basin below."),
        ("天文台は夜の九時に開きます。", "水銀の皿はカワウソが見張っています。"),
        ("رصدخانه هر شب ساعت نه باز است.", "سنجاب‌ها نگهبان حوض جیوه هستند."),
    ],
)
def test_the_rarest_sentence_of_a_text_is_its_question(common: str, rare: str) -> None:
    texts = [f"{common} {common}"] * 20 + [f"# Notes\n\n{common} {rare}\n{common}"]
    query = known_item_query(texts[-1], frequencies(texts), len(texts))
    assert query is not None
    assert query in rare
    assert len(query) > len(rare) * 0.8


def test_a_long_sentence_is_cut_and_a_text_without_a_long_enough_one_has_no_question() -> None:
    query = known_item_query("word " * 80 + "one two three", frequencies([]), 1)
    assert query is None or len(query) <= LONGEST
    long = " ".join(f"word{n}" for n in range(80))
    query = known_item_query(long, frequencies([long]), 1)
    assert query is not None
    assert len(query) <= LONGEST
    assert long.startswith(query)
    for text in ("", "---", "| a | b |\n|---|---|", "Yes. No."):
        assert known_item_query(text, frequencies([text]), 1) is None
