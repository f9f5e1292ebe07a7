"""Chunking: nothing is lost, nothing is too long, and structure is kept."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.chunking import Chunk, ChunkingConfig, split
from tests.support.chunk_texts import contents, sentence, squeezed
from tests.support.extent import times

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


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


@times(2)
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
