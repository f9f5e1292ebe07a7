"""Chunks of tables and records: each part has the names of its columns."""

from __future__ import annotations

import re

import pytest

from rag_assets.pipeline.chunking import split
from tests.support.chunk_texts import contents


def test_every_part_of_a_cut_table_repeats_the_header() -> None:
    header = "| key | value |\n|-----|-------|\n"
    rows = [f"| {n} | {'v' * (n % 50)} |" for n in range(150)]
    chunks = split("# Table\n\n" + header + "\n".join(rows), markdown=True)
    assert len(chunks) > 3
    assert {chunk.chunk_type for chunk in chunks} == {"table"}
    assert chunks[0].content.startswith("# Table\n\n" + header + rows[0])
    assert all(chunk.content.startswith(header) for chunk in chunks[1:])
    assert max(len(chunk.content) for chunk in chunks) <= 1000
    assert [line for chunk in chunks for line in chunk.content.split("\n") if line in rows] == rows


def markdown_table(names: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (names, *rows)]
    return "\n".join([lines[0], "|---" * len(names) + "|", *lines[1:]])


@pytest.mark.parametrize(
    ("columns", "name_chars", "value_chars"),
    [(12, 44, 2), (20, 45, 4), (200, 10, 2), (5, 100, 300), (300, 3, 0), (2, 3, 480)],
)
def test_each_value_of_a_wide_table_stands_below_the_name_of_its_column(
    columns: int, name_chars: int, value_chars: int
) -> None:
    names = [f"{'n' * name_chars}{column}" for column in range(columns)]
    rows = [[f"{row}-{c}{'v' * value_chars}" for c in range(columns)] for row in range(6)]
    parts = split("Register\n" + markdown_table(names, rows), markdown=True)
    assert max(len(part.content) for part in parts) <= 1000
    for row in rows:
        for column, value in enumerate(row):
            # Of a long name the end is kept.
            assert any(
                f" {value} " in f"{part.content} " and f"n{column} |" in part.content
                for part in parts
            ), (column, value)


def test_a_part_of_a_row_tells_which_row_it_is() -> None:
    names = ["Country", *(f"Indicator {n} of the year" for n in range(60))]
    rows = [[country, *("7,4" for _ in range(60))] for country in ("Chile", "Peru")]
    parts = contents(markdown_table(names, rows))
    assert sum("Country: Chile\n" in part for part in parts) >= 2
    assert not any("Chile" in part and "Peru" in part for part in parts)


def test_all_rows_of_names_are_repeated() -> None:
    names = "| Sort | Q1 | Q2 |\n| | Jan-Mar | Apr-Jun |\n"
    rows = "\n".join(f"| sort{n} | {n} | {n} |" for n in range(90))
    for header in (f"{names}|---|---|---|\n", names.replace("\n", "\n|---|---|---|\n", 1)):
        parts = contents(header + rows)
        assert len(parts) > 2
        assert all("Q1" in part and "Jan-Mar" in part for part in parts)


def test_a_table_may_follow_its_introduction_without_a_blank_line() -> None:
    rows = [[f"key{n}", f"value {n}"] for n in range(90)]
    parts = split("Introduction.\n" + markdown_table(["Key", "Value"], rows), markdown=True)
    assert parts[0].content.startswith("Introduction.\n| Key | Value |")
    assert all("| Key | Value |" in part.content for part in parts)
    prose = "A line with a | bar\nand one more | bar\n---\n"
    assert contents(prose) == [prose.strip()]


def test_no_value_of_a_record_is_parted_from_its_name() -> None:
    long = "; ".join(f"Indicator {n} of the quarter: 0,{n:03} e.g. Dr. Otto" for n in range(90))
    short = "\n".join(
        f"name: Dr. Otto {n}; age: {n}; note: First sentence. Second." for n in range(60)
    )
    for text in (long, short, f"{short}\n{long}"):
        parts = contents(text, markdown=False)
        assert max(map(len, parts)) <= 1000
        for value in re.findall(r"[^;\n]+: [^;\n]+", text):
            assert any(value.strip() in part for part in parts), value
    assert all("Indicator 0 of" in part for part in contents(long, markdown=False))
    article = f"id: 7; text: {'A sentence of the text. ' * 90}; price: 3"
    parts = contents(article, markdown=False)
    assert all(part.startswith("id: 7; ") and "text: " in part for part in parts[:-1])


def test_a_sentence_with_names_in_brackets_is_no_record() -> None:
    first = (
        "The great forest (Portuguese: Floresta; Spanish: Selva; French: Forêt; Dutch: Woud), also known by "
        "other names, covers most of the basin."
    )
    texts = contents(f"{first} " + "Another sentence tells of its rivers and animals. " * 40)
    assert texts[0].startswith(first)


@pytest.mark.parametrize(
    "text",
    [
        "|" * 100_000 + "\n|-|\n" + "|" * 100_000,
        "| a | b |\n|---|---|\n" + "| " * 100_000,
        "a: " + "; b: c" * 100_000,
        " | x" * 100_000,
        "|" + " " * 300_000 + "x\n|-" + " " * 300_000 + "x\n",
    ],
    ids=lambda text: text[:12],
)
def test_a_very_long_row_is_cut_in_linear_time(text: str) -> None:
    # A quadratic cut would take minutes here.
    assert max(map(len, contents(text))) <= 1000
