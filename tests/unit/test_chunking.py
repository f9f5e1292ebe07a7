"""Chunking: nothing is lost, nothing is too long, structure is kept, and an edit changes only its neighbourhood."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.chunking import CHUNKER_VERSION, Chunk, ChunkingConfig, split
from tests.support.extent import times

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

WORDS = ["the", "partition", "holds", "rows", "that", "a", "query", "reads", "and", "merges"]


def sentence(rng: random.Random, low: int, high: int) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(low, high))]
    words[-1] += str(rng.randrange(1_000_000))
    return " ".join(words).capitalize() + "."


def squeezed(text: str) -> str:
    return "".join(text.split())


def contents(text: str, *, markdown: bool = True) -> list[str]:
    return [chunk.content for chunk in split(text, markdown=markdown)]


# --- properties of every text -----------------------------------------------------------------------------------------

FRAGMENTS = [
    "# One", "## Two", "###### Six ##", "Title\n=====", "Title\n---", "```py\n# no heading\n\nx = 1\n```", "~~~", "```",
    "- item\n- item", "1. one\n   two", "    indented", "<!-- a\n\n# b -->", "<pre>", "> quoted", "***", "\t", "  ",
    "A sentence. Another one! ", "これは文です。次の文です。", "جملة؟ ", "a" * 90, "漢字" * 60, "\n", "\n\n", "\r\n",
    "\r", "\x1f", "\u2028", "\u200b",
]  # fmt: skip
TEXTS = st.lists(
    st.sampled_from(FRAGMENTS)
    | st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), max_size=40)
).flatmap(
    lambda parts: st.sampled_from(["\n", "\n\n", ""]).map(
        lambda glue: glue.join(["opening", *parts])
    )
)


@times(3)
@given(TEXTS, st.booleans(), st.integers(1, 60), st.integers(0, 60))
def test_every_text_is_kept_whole_within_the_limits(
    text: str, markdown: bool, limit: int, shortest: int
) -> None:
    chunks = split(text, markdown=markdown, config=ChunkingConfig(limit, min(limit, shortest)))
    assert squeezed("".join(chunk.content for chunk in chunks)) == squeezed(text)
    for position, chunk in enumerate(chunks):
        assert chunk.position == position
        assert 0 < len(chunk.content) <= limit
        assert chunk.content.strip() and chunk.content == chunk.content.rstrip()
        assert chunk.content.lstrip(" \t")[0] != "\n"
        assert chunk.chunk_type in {"text", "heading", "code", "table", "list"}
        assert 1 <= chunk.hierarchy_level <= 6
        assert chunk.section_title is None or 0 < len(chunk.section_title) <= 500
        assert chunk.parent is None or 0 <= chunk.parent < position
        assert chunk.token_count >= 0


@given(TEXTS)
def test_line_ends_do_not_matter(text: str) -> None:
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    assert split(unix.replace("\n", "\r\n"), markdown=True) == split(unix, markdown=True)


@pytest.mark.parametrize("text", ["", " \n\t\r\n ", "\ufeff", "---\ntitle: x\n---\n"])
def test_a_blank_text_has_no_chunks(text: str) -> None:
    assert split(text, markdown=True) == []


@pytest.mark.parametrize("line", ["a", "漢字", "|", ".", "`", "# ", '."'])
def test_a_very_long_line_is_cut_in_linear_time(line: str) -> None:
    # A quadratic cut would take minutes here.
    text = line * (1_000_000 // len(line))
    parts = contents(text)
    assert squeezed("".join(parts)) == squeezed(text)
    assert max(map(len, parts)) <= 1000


# --- structure -------------------------------------------------------------------------------------------------------


def outline(chunks: list[Chunk]) -> list[tuple[str | None, int, int | None]]:
    return [(chunk.section_title, chunk.hierarchy_level, chunk.parent) for chunk in chunks]


def test_each_chunk_knows_its_section_and_the_one_around_it() -> None:
    body = "\n\n".join("Word after word after word, and so on. " * 15 for _ in range(2))
    headings = [
        "Before.",
        "# Top #",
        "Middle\n---",
        "### Deep { #deep }",
        "## Next",
        "Other\n=====",
    ]
    text = "\n\n".join(f"{heading}\n\n{body}" for heading in headings)
    assert outline(split(text, markdown=True)) == [
        (None, 1, None), (None, 1, None), ("Top", 1, None), ("Top", 1, 2), ("Middle", 2, 2), ("Middle", 2, 4),
        ("Deep", 3, 4), ("Deep", 3, 6), ("Next", 2, 2), ("Next", 2, 8), ("Other", 1, None), ("Other", 1, 10),
    ]  # fmt: skip


def test_plain_text_has_no_headings() -> None:
    assert outline(split("# Not a heading\n\ntext", markdown=False)) == [(None, 1, None)]


def test_a_long_title_is_cut() -> None:
    (chunk,) = split("# " + "t" * 700, markdown=True)
    assert chunk.section_title == "t" * 500
    assert chunk.chunk_type == "heading"


@pytest.mark.parametrize(
    "opaque",
    [
        "```\n# no\n```",
        "~~~~\n# no\n```\n~~~\n# no\n~~~~",
        "<!--\n# no\n-->",
        "<pre>\n\n# no\n</pre>",
        "```\n# no",
    ],
)
def test_lines_inside_code_and_comments_are_no_headings(opaque: str) -> None:
    filler = "x " * 350
    chunks = split(f"# Yes\n\n{filler}\n\n{opaque}\n\n{filler}", markdown=True)
    assert {chunk.section_title for chunk in chunks} == {"Yes"}


def test_only_real_front_matter_is_dropped() -> None:
    front_matter = '---\nid: a.md\n"title": b\ntags:\n  - c\n- d\n\n# note\n---\n\n'
    assert contents(front_matter + "Text.") == ["Text."]
    assert contents("+++\ntitle = 'b'\n+++\nText.") == ["Text."]
    for block in ("A rule, then text: with a colon\nand a line", "# A heading", "A line"):
        prose = f"---\n{block}\n---\n\nText."
        assert "\n".join(contents(prose)) == prose
    assert contents("Text.\n\n---\nid: a\n---")[0].startswith("Text.\n\n---\nid: a")


def test_a_heading_stays_with_the_text_below_it() -> None:
    rng = random.Random(5)
    for _ in range(50):
        sections = [f"## Above {n}\n\n### Below {n}\n\n{sentence(rng, 3, 300)}" for n in range(20)]
        for chunk in split("\n\n".join(sections), markdown=True):
            assert chunk.chunk_type != "heading"
            assert not chunk.content.splitlines()[-1].startswith("#")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Text.", "text"), ("# Only", "heading"), ("# A\n\n## B", "heading"), ("# A\n\nText.", "text"),
        ("# A\n\n```\ncode\n```", "code"), ("    indented code", "code"), ("- a\n- b\n\n  more\n\n- c", "list"),
        ("1. a\n2. b", "list"), ("a | b\n--|--\n1 | 2", "table"), ("## A\n\n|a|\n|:-:|\n|1|", "table"),
        ("Text:\n\n- a", "text"), ("| no table", "text"), ("-no list", "text"), ("#no heading", "text"),
    ],
)  # fmt: skip
def test_a_chunk_has_the_type_of_its_blocks(text: str, kind: str) -> None:
    assert [chunk.chunk_type for chunk in split(text, markdown=True)] == [kind]


def test_code_is_kept_whole_where_it_fits_and_cut_at_line_ends_otherwise() -> None:
    lines = [f"    value_{n} = compute({n})" for n in range(200)]
    whole = "```python\n" + "\n\n".join(lines[:30]) + "\n```"
    text = "A paragraph. " * 30 + "\n\n" + whole + "\n\n" + "A paragraph. " * 30
    assert sum(whole in content for content in contents(text)) == 1

    parts = split("```python\n" + "\n".join(lines) + "\n```", markdown=True)
    assert {part.chunk_type for part in parts} == {"code"}
    assert "\n".join(part.content for part in parts).split("\n") == ["```python", *lines, "```"]


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


@pytest.mark.parametrize(
    ("unit", "ends"),
    [
        ("これは長い文です。", "。"),
        ("本当ですか？", "？"),
        ("این یک پرسش است؟ ", "؟"),
        ("یہ جملہ ہے۔ ", "۔"),
        ("Is it so, e.g. here? ", "?"),
    ],
)
@pytest.mark.parametrize("markdown", [True, False])
def test_a_long_paragraph_is_cut_at_sentence_ends(unit: str, ends: str, markdown: bool) -> None:
    parts = contents(unit * 400, markdown=markdown)
    assert len(parts) > 2
    assert all(part.endswith(ends) for part in parts)


def test_neighbours_that_fit_are_joined_and_long_sections_are_not() -> None:
    paragraph = "Some words of a paragraph. " * 4
    for parts in (
        contents("\n\n".join([paragraph] * 40)),
        contents("\n".join([paragraph] * 40), markdown=False),
    ):
        assert all(len(a) + len(b) > 980 for a, b in pairwise(parts))
    assert len(contents(f"# A\n\n{paragraph}\n\n# B\n\n{paragraph}")) == 1
    assert len(contents(f"# A\n\n{paragraph * 4}\n\n# B\n\n{paragraph * 4}")) == 2


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("two words", 2),
        ("snake_case, 3.5!", 3),
        ("日本語とkana", 5),
        ("한국어 단어", 2),
        ("naïve café", 2),
        ("--- ***", 0),
        ("カタカナ", 4),
    ],
)
def test_tokens_are_words_and_characters_of_spaceless_scripts(text: str, tokens: int) -> None:
    assert split(text, markdown=False)[0].token_count == tokens


# --- stability -------------------------------------------------------------------------------------------------------


def markdown_blocks(rng: random.Random) -> str:
    shape = rng.random()
    if shape < 0.12:
        return "#" * rng.choice([2, 2, 3, 3, 4]) + " " + sentence(rng, 2, 5)
    if shape < 0.25:
        return "```\n" + "\n".join(sentence(rng, 2, 8) for _ in range(rng.randint(1, 40))) + "\n```"
    if shape < 0.35:
        return "\n".join("- " + sentence(rng, 2, 12) for _ in range(rng.randint(1, 10)))
    return sentence(rng, 4, 60)


CASES: dict[str, tuple[Callable[[random.Random], str], str, bool]] = {
    "markdown with headings": (markdown_blocks, "\n\n", True),
    "paragraphs": (lambda rng: sentence(rng, 4, 60), "\n\n", True),
    "one paragraph of many lines": (lambda rng: sentence(rng, 4, 15), "\n", False),
    "one line of many sentences": (lambda rng: sentence(rng, 4, 30), " ", False),
}


@pytest.mark.parametrize("case", CASES)
def test_an_edit_changes_only_the_chunks_next_to_it(case: str) -> None:
    make, glue, markdown = CASES[case]
    rng = random.Random(case)
    changed: list[int] = []
    for _ in range(2):
        blocks = [make(rng) for _ in range(400)]
        before = set(contents(glue.join(blocks), markdown=markdown))
        for _ in range(60):
            edited, index = blocks.copy(), rng.randrange(400)
            block = blocks[index]
            edited[index : index + 1] = rng.choice(
                [
                    [],
                    [make(rng)],
                    [make(rng), block],
                    [block.replace("a", "A", 1)],
                    [block, make(rng), make(rng)],
                ]
            )
            after = contents(glue.join(edited), markdown=markdown)
            changed.append(sum(content not in before for content in after))
    changed.sort()
    p95 = changed[int(len(changed) * 0.95)]
    print(f"{case}: mean {mean(changed):.2f}, p95 {p95}, max {changed[-1]}")
    assert mean(changed) <= 1.7
    assert p95 <= 3
    assert changed[-1] <= 6


def test_an_edit_after_the_opening_of_a_paragraph_changes_at_most_three_chunks() -> None:
    rng = random.Random("within")
    words, sizes = [], []
    for _ in range(2):
        blocks = [sentence(rng, 20, 60) for _ in range(300)]
        before = set(contents("\n\n".join(blocks)))
        for _ in range(60):
            index = rng.randrange(300)
            opening, rest = blocks[index][:30], blocks[index][30:]
            place = rng.randrange(len(rest))
            for changed, counts in (
                # Same length as before.
                (rest[:place] + "*" + rest[place + 1 :], words),
                (rest + " " + sentence(rng, 4, 20), sizes),
                (rest[:place], sizes),
            ):
                edited = blocks.copy()
                edited[index] = opening + changed
                after = contents("\n\n".join(edited))
                counts.append(sum(content not in before for content in after))
    assert set(words) == {1}
    assert sum(count > 3 for count in sizes) <= 0.01 * len(sizes)
    assert max(sizes) <= 5


def test_chunks_change_only_with_the_version() -> None:
    """If chunks change, raise CHUNKER_VERSION too; otherwise documents keep the chunks of the old rules."""
    rng = random.Random("golden")
    text = "\n\n".join(markdown_blocks(rng) for _ in range(200)) + "\n\n" + "これは文です。" * 300
    digest = hashlib.blake2b("\0".join(contents(text)).encode(), digest_size=8).hexdigest()
    assert (CHUNKER_VERSION, digest) == ("4", "4d1d3b62754a3d89")


# --- configuration ---------------------------------------------------------------------------------------------------


def test_different_configurations_have_different_fingerprints() -> None:
    configs = [
        ChunkingConfig(),
        ChunkingConfig(max_chars=1001),
        ChunkingConfig(min_chars=201),
        ChunkingConfig(100, 0),
    ]
    assert len({config.fingerprint for config in configs}) == len(configs)
    assert ChunkingConfig().fingerprint == ChunkingConfig(1000, 200).fingerprint


@pytest.mark.parametrize("sizes", [(0, 0), (100, 101), (100, -1)])
def test_invalid_sizes_are_rejected(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"max_chars={sizes[0]}, min_chars={sizes[1]}"):
        ChunkingConfig(*sizes)


@pytest.mark.parametrize(
    "sentence_without_spaces",
    ["これは文です。", "这是一句话！", "នេះជាប្រយោគមួយ។", "ဒါကစာကြောင်းတစ်ကြောင်း။", "ይህዓረፍተነገርነው።"],
)
def test_scripts_without_spaces_are_cut_at_sentence_ends(
    sentence_without_spaces: str,
) -> None:
    parts = contents(sentence_without_spaces * 400, markdown=False)
    assert len(parts) > 2
    assert all(part.endswith(sentence_without_spaces) for part in parts)


@pytest.mark.skipif(not (SHARED / "corpora").is_dir(), reason=f"no third-party corpora at {SHARED}")
def test_code_of_real_documents_is_kept_whole_where_it_fits() -> None:
    whole = cut = 0
    for path in sorted((SHARED / "corpora/fastapi-docs/en").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        parts = contents(text)
        fences = re.finditer(r"^```[^\n`]*\n.*?\n```[ \t]*$", text, re.MULTILINE | re.DOTALL)
        for block in fences:
            if len(block[0]) <= 900:
                is_whole = any(block[0] in part for part in parts)
                whole, cut = whole + is_whole, cut + (not is_whole)
    assert whole > 100
    assert cut <= 0.01 * whole, (whole, cut)
