"""Splits the text of a chunk into sentences as a person reads them, in any script. Pure text.

A heading, a list item and a row of a table are sentences of their own. Markdown's marks are removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Ends of sentences: those of scripts that put no space behind them, and those that need one.
_CLOSING = "\"'”’»)\\]」』】〉》）"
_ENDS = re.compile(f"[。！？｡][{_CLOSING}]*(?=.)|[.!?…؟۔।॥።᙮།။។][{_CLOSING}]*(?=\\s)")
#: A full stop behind these ends no sentence: an initial, "Dr.", "No.", "16. Februar".
_ABBREVIATION = re.compile(r"(?:^|[\s(.])(?:[^\W\d_]|[A-ZÄÖÜ][a-zäöü]{1,2}|\d{1,2})\.$")
#: One more than the longest of them has, with what is before it.
_ABBREVIATION_CHARACTERS = 6
_INK = re.compile(r"\S")

_TABLE_RULE = frozenset("|:- \t")
_HEADING = re.compile(r"^#{1,6}\s+")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_RULE = re.compile(r"\s*(?:```|~~~|[-*_=]{3,}\s*$)")
# The time of each of these is linear in the text: none reads past the next mark of its own kind.
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)((?:(?!\1).)+)(?<=\S)\1")
_LIGHT_EMPHASIS = re.compile(r"(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?![\w*])")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)?\)")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|>])")
_QUESTION = re.compile(f"[?？؟;？][{_CLOSING}]*$|か。[{_CLOSING}]*$")
# Lines of these scripts are joined without a space.
_SPACELESS_EDGE = re.compile("[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff60]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """`context`: the heading above, the head of the table, or the question before. `announces`: it is one itself."""

    text: str
    context: str = ""
    announces: bool = False


@dataclass(slots=True)
class _Block:
    """`head`: the first row of its table; empty for that row itself, which is `announcing` like a heading."""

    text: str
    heading: bool = False
    announcing: bool = False
    head: str = ""


def split_sentences(text: str) -> list[Sentence]:
    """Return the sentences in order, none of them blank."""
    sentences: list[Sentence] = []
    heading = question = ""
    for block in _blocks(text):
        if block.heading:
            heading, question = block.text, ""
            sentences.append(Sentence(block.text, announces=True))
            continue
        for sentence in _of_block(block.text):
            asks = bool(_QUESTION.search(sentence))
            context = " ".join(part for part in (heading, block.head, question) if part)
            sentences.append(Sentence(sentence, context, asks or block.announcing))
            question = sentence if asks else question
    return sentences


def _of_block(text: str) -> Iterator[str]:
    start = 0
    for end in _ENDS.finditer(text):
        if text[end.start()] == "." and _continues(text, start, end):
            continue
        if sentence := text[start : end.end()].strip():
            yield sentence
        start = end.end()
    if sentence := text[start:].strip():
        yield sentence


def _continues(text: str, start: int, end: re.Match[str]) -> bool:
    """Return whether the sentence continues behind a full stop: "approx. five", "Dr. Ammann"."""
    following = _INK.search(text, end.end())
    if following and following[0].islower():
        return True
    # Not the whole sentence: a list of a thousand abbreviations is one.
    stop = end.start() + 1
    return bool(_ABBREVIATION.search(text[max(start, stop - _ABBREVIATION_CHARACTERS) : stop]))


def _is_table_rule(line: str) -> bool:
    """Return whether the line separates the head of a table from its rows: `|---|:-:|`."""
    return "-" in line and set(line) <= _TABLE_RULE


def _blocks(text: str) -> Iterator[_Block]:
    """Yield headings, list items, rows of tables and paragraphs; lines of a paragraph are joined."""
    lines: list[str] = []
    head, in_table = "", False
    rows = text.splitlines()
    for number, line in enumerate(rows):
        stripped = line.strip()
        is_row = stripped.startswith("|") and stripped.count("|") > 1
        starts_block = not stripped or is_row or _HEADING.match(stripped) or _RULE.match(line)
        if lines and (starts_block or _ITEM.match(line)):
            yield _Block(_plain(_joined(lines)))
            lines = []
        if not is_row:
            head, in_table = "", False
        if not stripped or _RULE.match(line) or (is_row and _is_table_rule(stripped)):
            continue
        if is_row:
            ruled = number + 1 < len(rows) and _is_table_rule(rows[number + 1].strip())
            cells = _row(stripped)
            is_head = ruled and not in_table
            if cells:
                yield _Block(cells, announcing=is_head, head=head)
            head = cells if is_head else head
            in_table = True
        elif _HEADING.match(stripped):
            yield _Block(_plain(_HEADING.sub("", stripped, count=1)), heading=True)
        else:
            lines.append(_ITEM.sub("", line, count=1) if not lines else stripped)
    if lines:
        yield _Block(_plain(_joined(lines)))


def _row(line: str) -> str:
    cells = (_plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip("|")))
    return " | ".join(cell for cell in cells if cell)


def _joined(lines: list[str]) -> str:
    text = ""
    for line in (line.strip().lstrip("> ") for line in lines):
        spaceless = (
            text and line and _SPACELESS_EDGE.match(text[-1]) and _SPACELESS_EDGE.match(line)
        )
        text += line if not text or spaceless else f" {line}"
    return text


def _plain(text: str) -> str:
    """Return the text without Markdown's marks, white space joined."""
    # Twice: an image may be the label of a link.
    text = _LINK.sub(r"\1", _LINK.sub(r"\1", text))
    text = _EMPHASIS.sub(r"\2", text)
    text = _LIGHT_EMPHASIS.sub(r"\1", text)
    text = _CODE.sub(r"\1", text)
    return " ".join(_ESCAPE.sub(r"\1", text).split())
