"""The output of `rag search` on a terminal of 80 columns: the passage, marked and cut around its marks. No servers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from rag_assets.cli import search
from rag_assets.cli.excerpts import excerpt
from rag_assets.cli.output import out
from rag_assets.pipeline.hits import Hit
from rag_assets.search.answer import Answer
from rag_assets.search.passages import Passage, best_passage

WORDS = " ".join(f"word{n}" for n in range(100))
TEXTS = {
    "en": f"# Power\n\n{WORDS}. {WORDS}, so a full tank lasts a little over 17 days, {WORDS}. {WORDS}.",
    "ja": "山の天気の話です。" * 5
    + "長い前置きで" * 40
    + "静粛時間は午前七時からで、"
    + "続きます" * 80
    + "。",
}
QUERIES = {"en": "how long does a full tank last", "ja": "静粛時間は何時からですか"}
MARKED = {"en": ["full", "tank", "lasts"], "ja": ["静粛時間"]}


def hit(content: str) -> Hit:
    return Hit(
        rank=1,
        score=0.8749,
        chunk_id="6c4ab0b2-0000-5000-8000-000000000000",
        document_id="document",
        title="Power supply and generators, a title that is far too long for one line of a terminal",
        section_title="What takes over",
        position=3,
        source="demo",
        key="en/a-key-that-must-not-be-broken-because-people-copy-it-from-the-screen-into-commands.md",
        language="en",
        content=content,
        page=2,
        dense_score=0.4123,
        sparse_score=8.3,
        relevance=0.8749,
    )


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("columns", [30, 77, 290])
def test_a_passage_is_cut_to_its_width_around_the_marks(language: str, columns: int) -> None:
    passage = best_passage(TEXTS[language], QUERIES[language])
    text = excerpt(passage, columns)
    assert cell_len(text.plain) <= columns
    marked = [text.plain[span.start : span.end] for span in text.spans if span.end > span.start]
    assert marked == MARKED[language]
    assert text.plain.startswith("…") and text.plain.endswith("…")


def test_a_short_passage_is_whole_and_other_marks_replace_its_own() -> None:
    passage = Passage("A tank lasts 17 days.", ((2, 6),))
    text = excerpt(passage, 77, [(13, 20)])
    assert text.plain == passage.text
    assert [(span.start, span.end) for span in text.spans] == [(13, 20)]
    # Without marks a long text is shown from its beginning.
    assert excerpt(Passage(WORDS), 20).plain == "word0 word1 word2…"


@pytest.mark.parametrize("language", TEXTS)
def test_a_hit_reads_well_at_80_columns(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "width", 80)
    shown = hit(TEXTS[language])
    with out.capture() as capture:
        search._print(shown, QUERIES[language])
    lines = capture.get().splitlines()
    # Without anything behind it that a terminal would break off.
    location = next(n for n, line in enumerate(lines) if line == f"   demo/{shown.key}")
    facts = "   #3 · p. 2 · en · relevance 0.875 · dense 0.412 · sparse 8.300"
    assert lines[location + 1] == facts
    assert all(cell_len(line) <= 80 for n, line in enumerate(lines) if n != location)
    # A title that is cut continues below its beginning.
    assert lines[1].startswith("   ")
    # The marked words are shown without colour too.
    assert all(word in capture.get() for word in MARKED[language])
    assert len(lines) <= 4 + search.PASSAGE_LINES


@pytest.mark.parametrize(
    ("key", "lines"), [("en/a.md", 1), ("مرصد.md", 2), ("長い" * 20 + ".md", 2)]
)
def test_a_key_stands_alone_where_it_is_long_or_written_from_right_to_left(
    key: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 80)
    with out.capture() as capture:
        search._print(replace(hit("text"), key=key, title="Title", section_title=None), "text")
    start = f"   demo/{key}"
    (line,) = [line for line in capture.get().splitlines() if line.startswith(start)]
    assert (line == start) == (lines == 2)


@pytest.mark.parametrize(
    ("relevances", "hidden", "best_hidden", "expected"),
    [
        ((0.9, 0.02), 0, None, "2 results in 5 ms"),
        ((0.9,), 3, 0.009, "1 result in 5 ms; 3 below --min-score 0.01 not shown"),
        ((0.019,), 0, None, "1 result in 5 ms; probably none answers"),
        ((None,), 0, None, "1 result in 5 ms"),
        ((), 0, None, "Nothing found."),
        (
            (),
            10,
            0.0042,
            "Nothing found that fits: the best of 10 results has a relevance of 0.004. --min-score 0 shows all.",
        ),
    ],
)
def test_the_summary_says_what_is_not_shown_and_whether_anything_fits(
    relevances: tuple[float | None, ...], hidden: int, best_hidden: float | None, expected: str
) -> None:
    hits = [replace(hit("text"), relevance=relevance) for relevance in relevances]
    answer = Answer(hits, [], True, 5.0, min_score=0.01, hidden=hidden, best_hidden=best_hidden)
    assert search._summary(answer, None) == expected


def test_the_score_that_orders_the_hits_is_not_shown_twice() -> None:
    shown = hit("text")
    assert search._scores(shown) == ["relevance 0.875", "dense 0.412", "sparse 8.300"]
    assert search._scores(replace(shown, score=0.03))[:2] == ["relevance 0.875", "score 0.030"]
    unmeasured = replace(shown, relevance=None, sparse_score=None)
    assert search._scores(unmeasured) == ["score 0.875", "dense 0.412"]
