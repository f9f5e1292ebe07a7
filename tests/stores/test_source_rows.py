"""Source types `jsonl`, `csv` and `parquet`: one document per row, on disk and in an S3-compatible store."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from rag_assets.pipeline.entries import Content, Entry
from resources.errors import ConfigError, SourceError
from resources.sources.base import Source
from resources.sources.columns import document_of
from resources.sources.registry import open_source
from resources.sources.rows import JsonlConfig, RowsSource
from tests.support.servers import S3

ROWS: list[dict[str, Any]] = [
    {
        "id": 1,
        "body": "The observatory opens at nine.",
        "name": "Hours",
        "by": "Ada",
        "tags": "a,b",
    },
    {"id": 2, "body": "天文台は夜十時に\n閉館します。", "name": "時間", "by": "", "tags": ""},
    {"id": 3, "body": 'A "quoted", text', "name": "", "by": "Bo", "tags": '["x, y"]'},
]
COLUMNS = {"key": "id", "text": "body", "title": "name", "author": "by", "tags": "tags"}


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        table = pa.Table.from_pylist(rows)
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, path)
        else:
            pyarrow.parquet.write_table(table, path)
    return path


def rows_of(path: Path, **config: Any) -> Source:
    return open_source(path.suffix[1:], {"path": str(path), **COLUMNS, **config})


def numbered(source: Source) -> list[Entry]:
    """Return the entries with their position in the listing, as a sync passes them."""
    return [
        Entry(entry.key, entry.locator, entry.change_token, entry.size, position)
        for position, entry in enumerate(source.list())
    ]


@pytest.fixture(params=["rows.jsonl", "rows.csv", "rows.parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / request.param)


def test_rows_are_documents(path: Path) -> None:
    source = rows_of(path)
    entries = numbered(source)
    assert [entry.key for entry in entries] == ["1", "2", "3"]
    source.prefetch(entries)
    contents = [source.fetch(entry) for entry in entries]
    assert [content.data.decode() for content in contents if content] == [r["body"] for r in ROWS]
    first, _, third = (content.about or {} for content in contents if content)
    assert (first["title"], first["author"], first["tags"]) == ("Hours", "Ada", ["a", "b"])
    assert "title" not in third
    assert third["tags"] == ["x, y"]


def test_a_row_changes_only_with_the_columns_that_are_used(path: Path) -> None:
    before = {entry.key: entry.change_token for entry in rows_of(path).list()}
    changed = [dict(row, unused="new") for row in reversed(ROWS)]
    changed[0]["name"] = "another title"
    write(path, changed)
    after = {entry.key: entry.change_token for entry in rows_of(path).list()}
    assert {key for key in before if before[key] != after[key]} == {"3"}


def test_batches_in_listing_order_read_the_file_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, [dict(ROWS[0], id=number, body=f"text {number}") for number in range(100)])
    source: Any = rows_of(path)
    entries = numbered(source)
    reads = []
    read = source._read
    monkeypatch.setattr(source, "_read", lambda: reads.append(1) or read())
    for batch in (entries[3:20], entries[20:21], entries[90:]):
        source.prefetch(batch)
        assert [source.fetch(e).data.decode() for e in batch] == [f"text {e.key}" for e in batch]
    assert len(reads) == 1


def test_a_row_without_a_position_is_found_by_its_key(path: Path) -> None:
    """As after a loss in the raw store, when later rows were read already."""
    source = rows_of(path)
    source.prefetch(numbered(source)[2:])
    content = source.fetch(Entry("2", "", None, None))
    assert content is not None and content.data.decode() == ROWS[1]["body"]
    with pytest.raises(SourceError, match="deleted since"):
        source.fetch(Entry("9", "", None, None))


def test_a_row_that_changed_since_the_listing_waits_for_the_next_run(path: Path) -> None:
    source = rows_of(path)
    entries = numbered(source)
    write(path, [dict(row, body=f"{row['body']}!") for row in ROWS])
    source.prefetch(entries)
    with pytest.raises(SourceError, match="changed while it was read"):
        source.fetch(entries[0])


def test_only_the_row_without_text_fails(path: Path) -> None:
    write(path, [dict(ROWS[0], body=""), ROWS[1]])
    source = rows_of(path)
    first, second = numbered(source)
    source.prefetch([first, second])
    with pytest.raises(SourceError, match="no text in body"):
        source.fetch(first)
    assert source.fetch(second)


def test_a_file_that_may_hide_rows_fails_the_listing(tmp_path: Path) -> None:
    lines = tmp_path / "x.jsonl"
    for bad, reason in (
        ('{"id": 1, "body": "x"}\n{"id": 2, "bo', "Line 2 .* is not JSON"),
        ('{"id": 1, "body": "x"}\n[]\n', "Line 2 .* is not a JSON object"),
        ('{"id": 1, "body": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "Line 1 .* is not JSON"),
        ('{"body": "x"}\n', "has no 'id'"),
        ('[{"id": 1, "body": "x"}]\n', "Line 1 .* begins an array; expected one object a line"),
    ):
        lines.write_text(bad)
        with pytest.raises(SourceError, match=reason) as caught:
            list(rows_of(lines).list())
        assert not caught.value.transient
    table = tmp_path / "x.csv"
    table.write_text("id,body,name,by,tags\n1,x,,,\n2,torn")
    with pytest.raises(SourceError, match="line 3"):
        list(rows_of(table).list())
    table.write_bytes("id,body\n1,café\n".encode("cp1252"))
    with pytest.raises(SourceError, match=r"not in the encoding utf-8 .*--set encoding=cp1252"):
        list(rows_of(table).list())
    for file in (lines, table):
        file.write_bytes(gzip.compress(b"id,body\n"))
        with pytest.raises(SourceError, match="compressed with gzip; decompress it"):
            list(rows_of(file).list())
    table.unlink()
    table.mkdir()
    with pytest.raises(SourceError, match="is a folder; expected one file"):
        list(rows_of(table).list())
    table.rmdir()
    table.write_text("id;body\n1;x\n")
    with pytest.raises(SourceError, match="has no 'body'"):
        list(rows_of(table).list())
    with pytest.raises(SourceError, match="does not exist"):
        list(rows_of(tmp_path / "none.parquet").list())


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.csv", "id,body,body\n1,a,b\n", r"the column 'body' 2 times"),
        ("a.csv", "id ,body\n1,a\n", r"no 'id' but 'id '"),
        (
            "a.csv",
            "id,cafe\u0301,caf\u00e9,body\n1,a,b,c\n",
            r"'cafe\\u0301', 'café', which have one name",
        ),
        ("a.csv", "id,body,\n1,a,b\n", "no name for column 3"),
        ("a.csv", "", "is empty: expected a line with the names"),
        ("a.csv", 'id,body\n1,"torn\n', "ends within quotes"),
        (
            "a.jsonl",
            '{"id": 1, "body": "a", "body": "b"}\n',
            r"Line 1 .* the column 'body' 2 times",
        ),
        ("a.jsonl", '{"id": 1, "body": "a", "": "b"}\n', "no name for column 3"),
        ("a.jsonl", '{"id": 1, "body": {"x": 1, "x": 2}}\n', "'x' twice within 'body'"),
    ],
)
def test_columns_that_would_hide_one_another_are_an_error(
    tmp_path: Path, name: str, data: str, reason: str
) -> None:
    (tmp_path / name).write_text(data)
    config = {"path": str(tmp_path / name), "key": "id", "text": "body", "metadata": "*"}
    with pytest.raises(SourceError, match=reason):
        list(open_source(name.rpartition(".")[2], config).list())


def test_equal_names_of_columns_in_parquet_are_an_error_and_unused_ones_are_not(
    tmp_path: Path,
) -> None:
    columns = [pa.array(["1"]), pa.array(["a"]), pa.array(["b"])]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table(columns, ["id", "body", "body"]), path)
    config = {"path": str(path), "key": "id", "text": "body"}
    with pytest.raises(SourceError, match="'body' 2 times"):
        list(open_source("parquet", config).list())
    (tmp_path / "b.csv").write_text("id,body,note,note,\n1,a,b,c,d\n")
    source = open_source("csv", {**config, "path": str(tmp_path / "b.csv")})
    assert [entry.key for entry in source.list()] == ["1"]


@pytest.mark.parametrize(
    ("name", "first", "part"),
    [
        ("a.jsonl", '{"id": 1, "body": "a"}\n', '{"id": 2, "bo'),
        ("a.csv", "id,body\n1,a\n", "2"),
        ("a.csv", "id,body\n1,a\n", "2,hal"),
        ("a.csv", "id,body\n1,a\n", '2,"half\n'),
    ],
)
def test_the_whole_rows_of_a_file_that_is_being_written_are_read_and_none_counts_as_deleted(
    tmp_path: Path, name: str, first: str, part: str
) -> None:
    path = tmp_path / name
    source = open_source(path.suffix[1:], {"path": str(path), "key": "id", "text": "body"})
    with path.open("w") as file:
        file.write(first + part)
        file.flush()
        assert [entry.key for entry in source.list()] == ["1"]
        assert "open for writing" in source.incomplete
    path.write_text(first)
    assert [entry.key for entry in source.list()] == ["1"] and source.incomplete == ""


def test_a_date_that_python_does_not_have_is_kept_as_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    days = pa.array([0, 2_932_897, None], pa.date32())
    far = pa.array([[0], [300_000_000_000_000_000], []], pa.list_(pa.timestamp("us")))
    columns = {"id": ["a", "b", "c"], "body": ["x", "y", "z"], "day": days}
    pyarrow.parquet.write_table(pa.table(columns), path)
    source = open_source(
        "parquet", {"path": str(path), "key": "id", "text": "body", "metadata": "*"}
    )
    entries = numbered(source)
    source.prefetch(entries)
    dates = [((source.fetch(e) or Content(b"")).about or {})["metadata"] for e in entries]
    assert dates == [{"day": "1970-01-01"}, {"day": "10000-01-01"}, {}]
    pyarrow.parquet.write_table(pa.table({**columns, "day": far}), path)
    with pytest.raises(SourceError, match=r"column 'day'.*cannot be read"):
        list(source.list())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # Programs that write Parquet without the mark of strings; BLOB columns of databases.
        (b"The tower", "The tower"),
        (["One.", "Two."], "One.\nTwo."),
        ([{"text": "One"}, None], '[{"text": "One"}, null]'),
        ({"ja": "塔", "ok": True}, '{"ja": "塔", "ok": true}'),
    ],
)
def test_a_text_of_another_type_is_no_python_code(value: Any, text: str) -> None:
    config = JsonlConfig(path="/rows.jsonl", key="id", text="body")
    assert document_of(config, "1", {"id": 1, "body": value})[0].decode() == text


def test_bytes_that_are_no_text_fail_alone() -> None:
    config = JsonlConfig(path="/rows.jsonl", key="id", text="body")
    with pytest.raises(SourceError, match="body contains bytes that are no text"):
        document_of(config, "1", {"body": b"\xff\xd8"})
    assert RowsSource(config, {})._key(0, {"id": b"k-1"}) == "k-1"


def test_rows_without_a_key_are_identified_by_their_number(path: Path) -> None:
    source = open_source(path.suffix[1:], {"path": str(path), "text": ["name", "body"]})
    entries = numbered(source)
    assert [entry.key for entry in entries] == ["row-000000001", "row-000000002", "row-000000003"]
    source.prefetch(entries)
    content = source.fetch(entries[0])
    assert content is not None and content.data == b"Hours\n\nThe observatory opens at nine."


def test_rows_are_read_from_a_store(s3: S3, tmp_path: Path) -> None:
    for suffix in ("jsonl", "csv", "parquet"):
        path = write(tmp_path / f"rows.{suffix}")
        s3.put(f"bucket/rows.{suffix}", path.read_bytes())
        config = {"path": f"s3://bucket/rows.{suffix}", "options": s3.options, **COLUMNS}
        source = open_source(suffix, config, s3.credentials)
        entries = numbered(source)
        source.prefetch(entries)
        assert [entry.key for entry in entries] == ["1", "2", "3"]
        assert source.fetch(entries[2])


def test_all_problems_of_a_configuration_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        open_source("csv", {"path": "x.csv", "delimiter": ";;", "metadata": "all", "body": "text"})
    names = {line.strip().split(":")[0] for line in str(caught.value).splitlines()[1:-1]}
    assert names == {"path", "delimiter", "metadata", "body", "text"}
