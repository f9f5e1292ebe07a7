"""The passage of a hit: the right sentence and the right words, in scripts with and without spaces."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.search.passages import Passage, best_passage
from rag_assets.search.sentences import split_sentences


def marked(passage: Passage) -> list[str]:
    return [passage.text[start:end] for start, end in passage.spans]


#: language -> a text, a query, the words that its passage must contain, and terms that must be marked.
QUESTIONS: dict[str, tuple[str, str, str, list[str]]] = {
    "en": (
        "The tank behind the workshop is yellow. At the usual load a generator burns 19 litres an hour, so a full "
        "tank lasts a little over 17 days. Order fuel early.",
        "How long does a full tank last for the generators?",
        "17 days",
        ["generator", "full", "tank", "lasts"],
    ),
    "de": (
        "Wir bitten um abgeschirmte Gehäuse. Die Lichtfarbe soll höchstens 2200 Kelvin haben. Das Gutachten von Dr. "
        "Ammann vom 16. Februar liegt bei.",
        "Welche Lichtfarbe sollen Lampen höchstens haben?",
        "2200 Kelvin",
        ["Lichtfarbe", "höchstens"],
    ),
    "ja": (
        "観測者は朝に眠ります。午前7時30分から午後1時までを静粛時間とし、廊下では話をしないでください。風呂は一階です。",
        "静粛時間は何時から何時までですか。",
        "午後1時",
        ["静粛時間"],
    ),
    "zh": (
        "原始数据保存三份。观测者享有**十二个月**的独占期,学生论文可以申请延长。独占期结束后,数据自动公开。",
        "观测数据的独占期是多少个月?",
        "十二个月",
        ["观测"],
    ),
    "ko": (
        "숙소의 창은 닫아 둔다. 눈사태 위험 단계가 4일 때는 지하 통로로만 이동한다. 장비는 현관에 둔다.",
        "눈사태 위험 4단계에서는 어떻게 이동해야 합니까?",
        "지하 통로",
        ["눈사태", "위험"],
    ),
    "fa": (
        "اتوبوس‌ها در پارکینگ می‌ایستند. درخواست رزرو را دست‌کم سه هفته پیش از بازدید بفرستید. ناهار همراه بیاورید.",
        "درخواست رزرو را چند هفته پیش باید فرستاد؟",
        "سه هفته",
        ["درخواست", "رزرو", "هفته"],
    ),
    "ar": (
        "المصابيح الحمراء متوفرة مجانًا. تحتاج العين إلى خمس وعشرين دقيقة لتتعوّد على الظلام. أعد المصباح قبل النزول.",
        "كم دقيقة تحتاج العين لتتعود على الظلام؟",
        "خمس وعشرين دقيقة",
        ["العين", "دقيقة", "الظلام"],
    ),
    "hi": (
        "पुस्तकालय नीचे है। वेधशाला सुबह नौ बजे खुलती है। सोमवार को अवकाश रहता है।",
        "वेधशाला कब खुलती है?",
        "नौ बजे",
        ["वेधशाला", "खुलती"],
    ),
}


@pytest.mark.parametrize("language", QUESTIONS)
def test_the_sentence_that_answers_is_found_and_its_terms_are_marked(language: str) -> None:
    text, query, answer, terms = QUESTIONS[language]
    passage = best_passage(text, query)
    assert answer in passage.text
    # One sentence, not the whole text.
    assert len(passage.text) < len(text) * 0.7
    assert set(terms) <= set(marked(passage))


def test_function_words_and_particles_are_not_marked() -> None:
    passage = best_passage(
        "The dome of the old observatory is in the east.", "Where is the observatory of the east?"
    )
    assert marked(passage) == ["observatory", "east"]
    # A query of short words only has nothing better.
    assert "tax" in marked(best_passage("It is the tax law of 1968.", "the tax"))


def test_a_heading_and_a_question_lead_to_the_answer_below_them() -> None:
    text = (
        "# Visits\n\n## どんな天体が見られますか。\n\n季節によって変わります。\n\n"
        "## 雨のときはどうなりますか。\n\n解説に替わります。"
    )
    assert best_passage(text, "どんな天体が見られますか。").text == "季節によって変わります。"
    assert (
        best_passage("How long is it open? Until ten. Dogs wait.", "how long is it open").text
        == "Until ten."
    )
    # Nothing but a heading is still a passage.
    assert best_passage("# Opening hours", "hours").text == "Opening hours"


def test_a_row_of_a_table_is_a_sentence() -> None:
    text = (
        "| Season | Days |\n|---|---|\n| Summer | Tuesday to Sunday |\n| Autumn break | closed |\n"
    )
    assert best_passage(text, "days of the autumn break") == Passage(
        "Autumn break | closed", ((0, 6), (7, 12))
    )


def test_sentences_end_where_a_reader_ends_them() -> None:
    text = (
        "Dr. Ammann wrote on 16. Februar. See approx. five of U.S. Route 5! “Really?” Yes…\n"
        "It is hard-\nwrapped *text* with `code` and [a link](https://example.org).\n"
        "1. First item.\n2. Second\n   item.\n\n```\nx ** y\n```\n改行された\n文です。終わり」。"
    )
    assert [sentence.text for sentence in split_sentences(text)] == [
        "Dr. Ammann wrote on 16. Februar.",
        "See approx. five of U.S. Route 5!",
        "“Really?”",
        "Yes…",
        "It is hard- wrapped text with code and a link.",
        "First item.",
        "Second item.",
        "x ** y",
        "改行された文です。",
        "終わり」。",
    ]


HOSTILE = [
    "|- ",
    "| :-",
    "-",
    "[",
    "[a](",
    "[a](b(",
    "**a ",
    "__a ",
    "*a ",
    "`",
    "1. ",
    "a. ",
    '!"',
]


@pytest.mark.parametrize("part", HOSTILE)
def test_no_line_of_a_document_takes_long(part: str) -> None:
    # The letter at the end prevents a match, and a rule of a table must fail, too.
    line = "| a |\n|" + (part * (20_000 // len(part))) + "z|"
    started = time.process_time()
    split_sentences(line)
    split_sentences(line.replace("|", "").strip())
    assert time.process_time() - started < 1


def test_marks_in_marks_are_removed() -> None:
    text = "See [![the plan](p.png)](https://ex.org/Plan_(map)) and ***all* of it** at __5__."
    assert [sentence.text for sentence in split_sentences(text)] == [
        "See the plan and all of it at 5."
    ]
    table = "| a | b |\n| :-- | --: |\n| 1 | 2 |"
    assert [(s.text, s.context) for s in split_sentences(table)] == [("a | b", ""), ("1 | 2", "a | b")]  # fmt: skip


def test_without_a_common_term_the_first_sentence_is_shown_unmarked() -> None:
    assert best_passage("# Dome\n\nIt opens at nine. It is round.", "天文台") == Passage(
        "It opens at nine."
    )
    assert best_passage(" \n", "dome") == Passage("")


@given(st.text(max_size=300), st.text(max_size=60))
def test_any_text_has_a_passage_with_ordered_places_in_it(text: str, query: str) -> None:
    passage = best_passage(text, query)
    at = 0
    for start, end in passage.spans:
        assert at <= start < end <= len(passage.text)
        at = end
