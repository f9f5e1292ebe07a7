"""PDF: text, pages, and lines of right-to-left scripts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pytest

from resources.parsing import parse_document
from resources.parsing.hyphenation import Hyphenation
from resources.parsing.pages import page_starts
from resources.parsing.right_to_left import is_visual, logical
from tests.support.parsed import (
    ENGLISH,
    pdf,
)


def test_pdf_provides_text_and_page_count() -> None:
    document = parse_document(pdf(f"BT /F1 12 Tf 20 700 Td ({ENGLISH}) Tj ET"), "paper.pdf")
    assert ENGLISH in document.text
    assert document.metadata["pages"] == 1


def test_pages_are_located_in_the_text() -> None:
    pages = [
        f"Running head\nPage {n}: the {n * 7} stones of quarry {n * 13} were counted."
        for n in range(1, 9)
    ]
    text = "\n\n".join(f"**Page {n}:** {page[21:]}" for n, page in enumerate(pages, 1))
    starts = page_starts(text, pages)
    assert [text[start:].split(":")[0] for start in starts] == [f"**Page {n}" for n in range(1, 9)]
    with_absent_page = [*pages[:3], "A page of which nothing is in the text at all", *pages[3:]]
    assert page_starts(text, with_absent_page) == [*starts[:3], starts[3], *starts[3:]]
    assert page_starts(text, []) == [] and page_starts("", pages) == [0] * 8


def test_lines_in_visual_order_become_lines_in_logical_order() -> None:
    logical_order = (
        "تعتبر لغة Python و R من الأدوات القوية، وهي سريعة.\nتحسين الإنتاجية في 2024 ممكن."
    )
    visual_order = (
        ".سريعة وهي ،القوية الأدوات من R و Python لغة تعتبر\n.ممكن 2024 في الإنتاجية تحسين"
    )
    assert is_visual([visual_order])
    assert not is_visual([logical_order]) and not is_visual([ENGLISH])
    assert logical(visual_order) == logical_order.replace("Python و R", "Python و R")


LEFT = (
    "The harbour of the old town was built by fishermen who came from the islands in the north and stayed for the "
    "winter storms because the bay is deep."
)
RIGHT = (
    "Engineers measured the pressure of the new pump every morning and wrote their results into a green book that "
    "nobody opened again until the inspection."
)
THIRD = (
    "Die Pumpe der Gemeinde wurde im Winter gemessen und das Ergebnis der Messung steht in einem Heft, das im "
    "Rathaus liegt und dort gelesen wird."
)


def lines(left: float, top: float, *texts: str, size: float = 11) -> list[tuple[float, float, str]]:
    """The operators of lines below each other, with the place of each."""
    return [
        (top - 14 * n, left, f"BT /F1 {size} Tf 1 0 0 1 {left} {top - 14 * n} Tm ({text}) Tj ET")
        for n, text in enumerate(texts)
    ]


def drawn_across(*columns: Sequence[tuple[float, float, str]]) -> str:
    """Each line of the first column is followed by the line beside it."""
    placed = sorted((place for column in columns for place in column), key=lambda p: (-p[0], p[1]))
    return "\n".join(operator for _, _, operator in placed)


def wrapped(text: str, width: int = 40) -> list[str]:
    return textwrap.wrap(text, width)


def test_columns_drawn_line_by_line_are_read_one_after_the_other() -> None:
    across = drawn_across(lines(60, 700, *wrapped(LEFT)), lines(330, 700, *wrapped(RIGHT)))
    down = "\n".join(
        o for _, _, o in [*lines(60, 700, *wrapped(LEFT)), *lines(330, 700, *wrapped(RIGHT))]
    )
    text = parse_document(pdf(across), "a.pdf").text
    assert text == f"{LEFT}\n\n{RIGHT}"
    assert text.split() == parse_document(pdf(down), "a.pdf").text.split()


def test_three_columns_and_headings_across_them_keep_their_places() -> None:
    three = drawn_across(
        lines(30, 700, *wrapped(LEFT, 28)),
        lines(215, 700, *wrapped(RIGHT, 28)),
        lines(400, 700, *wrapped(THIRD, 28)),
    )
    assert parse_document(pdf(three), "a.pdf").text == f"{LEFT}\n\n{RIGHT}\n\n{THIRD}"
    page = drawn_across(
        lines(60, 760, "A first heading across both columns of the page", size=16),
        lines(60, 720, *wrapped(LEFT)),
        lines(330, 720, *wrapped(RIGHT)),
        lines(60, 620, "A second heading across both columns of the page", size=16),
        lines(60, 590, *wrapped(RIGHT)),
        lines(330, 590, *wrapped(LEFT)),
    )
    paragraphs = parse_document(pdf(page), "a.pdf").text.split("\n\n")
    assert paragraphs[1:3] == [LEFT, RIGHT] and paragraphs[4:] == [RIGHT, LEFT]
    assert paragraphs[0].startswith("A first") and paragraphs[3].startswith("A second")


@pytest.mark.parametrize(
    "columns",
    [
        (["Item", "Pump", "Hose", "Valve"], ["Price", "500", "20", "15"], ["Remark", "in stock", "sold out", "used"]),
        (["Vessel name", "Otter of the north", "Eel with a hat"], ["Captain on board", "Ole from the Islands", "Ida and Ann"]),
        (["Pump P-500", "", "Hose H-20"], ["A strong pump for wells", "that are deep", "A long hose"], ["500 EUR", "", "20 EUR"]),
        (["Name of the owner:", "Street and number:", "Place of birth:"], ["Anna Schmidt", "Lange Gasse 12", "Basel"]),
        (["Introduction to pumps", "How to read the manual", "Index of names"], ["1", "12", "99"]),
    ],
)  # fmt: skip
def test_tables_and_forms_are_not_columns(columns: Sequence[Sequence[str]]) -> None:
    page = drawn_across(*(lines(60 + 170 * n, 700, *column) for n, column in enumerate(columns)))
    text = parse_document(pdf(page), "a.pdf").text
    beside, below = columns[1][0].split()[0], columns[0][-1].split()[0]
    assert text.index(beside) < text.index(below)


def test_words_broken_at_the_ends_of_lines_are_made_whole() -> None:
    broken = (
        "The well-|known state-of-the-|art e-|mail of the Anglo-|American twenty-|five 2020-|2024 and COVID-|19 in "
        "Berlin-|Mitte, Ein- und Aus-|gang, Haus-|und Garten, a wind-|resistant tem-|perature, wind-resistant, INTER-|NAL"
    )
    text = parse_document(pdf(drawn_across(lines(60, 700, *broken.split("|")))), "a.pdf").text
    assert " ".join(text.split()) == (
        "The well-known state-of-the-art e-mail of the Anglo-American twenty-five 2020-2024 and COVID-19 in "
        "Berlin-Mitte, Ein- und Ausgang, Haus- und Garten, a wind-resistant temperature, wind-resistant, INTERNAL"
    )


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("co\x02operate, cooperate, co-operate, cooperate", "cooperate, cooperate, co-operate, cooperate"),
        ("тем\x02пература и Нью\x02Йорк", "температура и Нью-Йорк"),
        ("self\x02ish and self\x02made", "selfish and self-made"),
        ("tem-\r\nperature", "temperature"),
        ("pre- and post\x02war", "pre- and postwar"),
        ("東京-\n大阪", "東京-大阪"),
        ("a - b\nc", "a - b\nc"),
    ],
)  # fmt: skip
def test_the_words_of_a_document_decide_on_hyphens(page: str, expected: str) -> None:
    assert Hyphenation([page]).in_page(page) == expected


def test_words_broken_in_columns_are_made_whole() -> None:
    left = [
        "The tem-",
        "perature of the water is",
        "measured by the Haus-",
        "und Gartenamt each day.",
    ]
    right = [
        "A wind-",
        "resistant cover keeps the",
        "boat dry when the heavy",
        "storms come over the sea.",
    ]
    page = drawn_across(
        lines(60, 700, *left), lines(330, 700, *right), lines(60, 600, "wind-resistant")
    )
    text = " ".join(parse_document(pdf(page), "a.pdf").text.split())
    assert (
        "temperature of the water is measured by the Haus- und Gartenamt each day. A wind-resistant cover"
        in text
    )
