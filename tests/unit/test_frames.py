"""Records and answers as data frames: columns, types, and values that may be absent."""

from __future__ import annotations

import pyarrow as pa

from rag_assets import Answer, Hit, Holder
from resources.frames import Records

HITS = [
    Hit(1, 0.75, "c1", "d1", "Title", "Section", 0, "docs", "a.pdf", "de", "text", page=3,
        also_in=(Holder("d2", "docs", "b.pdf", "Other"),), before=("one", "two")),
    Hit(2, 0.5, "c2", "d1", "Title", None, 1, "docs", "a.pdf", None, "more"),
]  # fmt: skip


def answer(*hits: Hit) -> Answer:
    return Answer(hits, [], exhausted=True, milliseconds=1.0)


def test_an_answer_is_a_frame_of_its_hits() -> None:
    frame = answer(*HITS).to_pandas()
    assert frame["rank"].tolist() == [1, 2] and frame["score"].tolist() == [0.75, 0.5]
    # An integer that may be absent stays an integer.
    assert frame["page"].dtype == "Int64" and frame["page"].tolist()[0] == 3
    absent = frame[["section_title", "language", "page"]].isna()
    assert [bool(value) for value in absent.to_numpy().ravel()] == [False] * 3 + [True] * 3
    assert frame["also_in"].tolist()[0] == [
        {"document_id": "d2", "source": "docs", "key": "b.pdf", "title": "Other"}
    ]
    assert frame["before"].tolist() == [["one", "two"], []]


def test_an_answer_is_an_arrow_table_of_its_hits() -> None:
    table = answer(*HITS).to_arrow()
    assert table.schema.field("score").type == pa.float64()
    assert table.schema.field("page").nullable and not table.schema.field("rank").nullable
    first, second = table.to_pylist()
    assert first["page"] == 3 and second["page"] is None
    assert first["also_in"][0]["key"] == "b.pdf" and second["also_in"] == []
    # Both libraries have the same columns.
    assert table.column_names == list(answer(*HITS).to_pandas().columns)


def test_a_frame_without_rows_has_the_same_columns_and_types() -> None:
    full, empty = answer(*HITS), answer()
    assert empty.to_pandas().dtypes.to_dict() == full.to_pandas().dtypes.to_dict()
    assert empty.to_arrow().schema == full.to_arrow().schema
    assert len(empty.to_pandas()) == empty.to_arrow().num_rows == 0


def test_records_are_a_sequence() -> None:
    records = Records(Hit, HITS)
    assert (len(records), records[0], list(records)) == (2, HITS[0], HITS)
    assert records[1:] == (HITS[1],)
