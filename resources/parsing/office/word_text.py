"""The text of Word as a reader sees it: no moved or hidden text, blanks for tabs and breaks, bases of readings.

Works on one part, in place, in one pass from the root: each element's children are rewritten before they are visited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element

from resources.parsing.office.package import local_name, name_of
from resources.parsing.symbol_fonts import symbol_character

P, R, T, RPR, PPR = (name_of("w", name) for name in ("p", "r", "t", "rPr", "pPr"))
BR = name_of("w", "br")
VAL = name_of("w", "val")
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_ALTERNATIVES = name_of("mc", "AlternateContent")
_CHOICE, _FALLBACK = name_of("mc", "Choice"), name_of("mc", "Fallback")
_CELL, _CELL_DELETED = name_of("w", "tc"), f"{name_of('w', 'tcPr')}/{name_of('w', 'cellDel')}"
_TR, _ROW_DELETED = name_of("w", "tr"), f"{name_of('w', 'trPr')}/{name_of('w', 'del')}"
_CELLS_BEFORE = f"{name_of('w', 'trPr')}/{name_of('w', 'gridBefore')}"
_MARK_DELETED = f"{PPR}/{RPR}/{name_of('w', 'del')}"
_FIELD_CHARACTER = name_of("w", "fldChar")
_LIST_OF_CHOICES = f"{name_of('w', 'ffData')}/{name_of('w', 'ddList')}"
_RUBY, _RUBY_BASE = name_of("w", "ruby"), name_of("w", "rubyBase")
_SYMBOL = name_of("w", "sym")
_OFF = ("0", "false", "off")
#: Cells that a row may leave out; Word allows 63 columns.
_MAX_SKIPPED = 63

#: What change tracking deleted or moved away, and the properties that it replaced.
_GONE = {
    name_of("w", name)
    for name in (
        *("del", "moveFrom", "delText", "softHyphen"),
        *(
            "rPrChange",
            "pPrChange",
            "sectPrChange",
            "tblPrChange",
            "trPrChange",
            "tcPrChange",
            "tblGridChange",
        ),
    )
}
#: Elements of a run that stand for characters.
_CHARACTERS = {
    **dict.fromkeys((name_of("w", "tab"), name_of("w", "ptab")), " "),
    name_of("w", "noBreakHyphen"): "-",
}
_REWRITTEN = {
    *(*_GONE, *_CHARACTERS, _ALTERNATIVES, _TR, _CELL, _SYMBOL, _RUBY, _FIELD_CHARACTER),
    *(BR, name_of("w", "cr")),
}
#: Elements of a hidden run that stay: without them a field would not end.
_FIELD = {RPR, name_of("w", "fldChar"), name_of("w", "instrText")}
#: Formats that must not part a word: their marks would stand inside it.
_MARKED = [name_of("w", name) for name in ("b", "bCs", "i", "iCs", "strike", "dstrike")]
_VANISH = name_of("w", "vanish")
_UNDERLINE, _RAISED = name_of("w", "u"), name_of("w", "vertAlign")
_SUPERSCRIPTS = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")


def text_element(text: str) -> Element:
    """Return a `w:t`."""
    element = Element(T, {_SPACE: "preserve"})
    element.text = text
    return element


def paragraph_of(text: str) -> Element:
    """Return a paragraph of one run."""
    paragraph, run = Element(P), Element(R)
    run.append(text_element(text))
    paragraph.append(run)
    return paragraph


def text_of(element: Element) -> str:
    """Return the characters of all `w:t` below an element."""
    return "".join(node.text or "" for node in element.iter(T))


def hidden_styles(styles: Element) -> frozenset[str]:
    """Return the ids of the styles that hide text."""
    return frozenset(
        style.get(name_of("w", "styleId")) or ""
        for style in styles.iter(name_of("w", "style"))
        if _is_on(style.find(RPR), "vanish")
    )


class LeftOut(NamedTuple):
    """The numbers of hidden characters and of readings above characters."""

    hidden: int
    readings: int


def simplify(root: Element, hidden: frozenset[str] = frozenset()) -> LeftOut:
    """Rewrite the text of one part. `hidden`: styles that hide text."""
    left_out = 0
    readings = sum(1 for _ in root.iter(_RUBY))
    for parent in root.iter():
        if not len(parent):
            continue
        if any(child.tag == P and child.find(_MARK_DELETED) is not None for child in parent):
            parent[:] = _merged_paragraphs(parent)
        if not _REWRITTEN.isdisjoint([child.tag for child in parent]):
            parent[:] = [new for child in parent for new in _replacements(child, parent)]
        if parent.tag == R and (properties := parent.find(RPR)) is not None:
            _plain_format(parent, properties)
            if _is_hidden(properties, hidden):
                left_out += sum(len(child.text or "") for child in parent if child.tag == T)
                parent[:] = [child for child in parent if child.tag in _FIELD]
        elif parent.tag == P and hidden and _style(parent, PPR, "pStyle") in hidden:
            for run in parent.iter(R):
                run.insert(0, _hiding())
        elif parent.tag == _CELL:
            # The extractor escapes their marks in tables, where they are no formats any more.
            for paragraph in parent.findall(P):
                for run in paragraph.iter(R):
                    _remove_marks(run)
    # Only now the runs have all their characters.
    for paragraph in root.iter(P):
        _keep_words_whole(paragraph)
    return LeftOut(left_out, readings)


def _merged_paragraphs(blocks: Iterable[Element]) -> Iterator[Element]:
    """Yield the blocks; a paragraph whose end was deleted goes on in the next one."""
    open_paragraph: Element | None = None
    for block in list(blocks):
        if open_paragraph is not None:
            if block.tag == P:
                start = len(block.findall(PPR))
                block[start:start] = [child for child in open_paragraph if child.tag != PPR]
            else:
                yield open_paragraph
            open_paragraph = None
        if block.tag == P and block.find(_MARK_DELETED) is not None:
            open_paragraph = block
        else:
            yield block
    if open_paragraph is not None:
        yield open_paragraph


def _replacements(child: Element, parent: Element) -> Iterator[Element]:
    """Yield what replaces a child: itself, nothing, or other elements."""
    tag = child.tag
    if tag in _GONE or (tag == _TR and child.find(_ROW_DELETED) is not None):
        return
    if tag == _CELL and child.find(_CELL_DELETED) is not None:
        return
    if tag == _TR:
        _fill_grid(child)
    if tag == _ALTERNATIVES:
        for element in _alternative(child):
            yield from _replacements(element, parent)
    elif parent.tag != R:
        yield child
    elif tag == _FIELD_CHARACTER:
        if choice := _choice(child):
            yield text_element(choice)
        yield child
    elif tag in _CHARACTERS:
        yield text_element(_CHARACTERS[tag])
    elif tag == name_of("w", "cr") or tag == BR:
        # A break of pages or columns is one of lines: the extractor drops it otherwise.
        yield Element(BR)
    elif tag == _SYMBOL:
        yield text_element(_symbol(child))
    elif tag == _RUBY:
        for run in child.findall(f"{_RUBY_BASE}/{R}"):
            for element in run:
                if element.tag != RPR:
                    yield from _replacements(element, parent)
    else:
        yield child


def _fill_grid(row: Element) -> None:
    """Insert the cells that a row leaves out at its start: the extractor would move the others to the left."""
    skipped = row.find(_CELLS_BEFORE)
    number = "" if skipped is None else skipped.get(VAL) or ""
    if number.isdecimal() and 0 < int(number) <= _MAX_SKIPPED:
        first = next((n for n, child in enumerate(row) if child.tag == _CELL), len(row))
        row[first:first] = [_empty_cell() for _ in range(int(number))]


def _empty_cell() -> Element:
    cell = Element(_CELL)
    cell.append(Element(P))
    return cell


def _alternative(alternatives: Element) -> Iterable[Element]:
    """Return the content for new programs, or the one for old programs if only that has text."""
    choice, fallback = alternatives.find(_CHOICE), alternatives.find(_FALLBACK)
    if choice is None or (fallback is not None and text_of(fallback) and not text_of(choice)):
        choice = fallback
    return () if choice is None else list(choice)


def _choice(field: Element) -> str:
    """Return the chosen entry of a form's list; it is no text of the document."""
    choices = field.find(_LIST_OF_CHOICES)
    if choices is None:
        return ""
    entries = [entry.get(VAL) or "" for entry in choices.findall(name_of("w", "listEntry"))]
    result = choices.find(name_of("w", "result"))
    number = "" if result is None else result.get(VAL) or ""
    index = int(number) if number.isdecimal() else 0
    return entries[index] if index < len(entries) else ""


def _symbol(element: Element) -> str:
    try:
        code = int(element.get(name_of("w", "char")) or "", 16)
    except ValueError:
        return " "
    return symbol_character(element.get(name_of("w", "font")) or "", code)


def _is_hidden(properties: Element, hidden: frozenset[str]) -> bool:
    if properties.find(_VANISH) is not None:
        return _is_on(properties, "vanish")
    if not hidden or (style := properties.find(name_of("w", "rStyle"))) is None:
        return False
    return style.get(VAL) in hidden


def _is_on(properties: Element | None, name: str) -> bool:
    switch = properties.find(name_of("w", name)) if properties is not None else None
    return switch is not None and switch.get(VAL) not in _OFF


def _style(element: Element, properties: str, name: str) -> str:
    style = element.find(f"{properties}/{name_of('w', name)}")
    return "" if style is None else style.get(VAL) or ""


def _hiding() -> Element:
    properties = Element(RPR)
    properties.append(Element(name_of("w", "vanish")))
    return properties


def _plain_format(run: Element, properties: Element) -> None:
    """Remove the formats whose marks part words or mean something else in Markdown: underlined, raised, lowered."""
    if (underline := properties.find(_UNDERLINE)) is not None:
        properties.remove(underline)
    if (raised := properties.find(_RAISED)) is not None:
        properties.remove(raised)
        if raised.get(VAL) == "superscript":
            for node in run.findall(T):
                text = node.text or ""
                # Not "1st" or "xn": only what has a form of its own, so that 10³ does not become 103.
                if text and all(character in "0123456789+-−" for character in text):
                    node.text = text.translate(_SUPERSCRIPTS)


def _keep_words_whole(paragraph: Element) -> None:
    """Remove bold, italic and struck from runs that meet inside a word."""
    previous, end = None, ""
    for run in paragraph:
        if local_name(run) in ("proofErr", "bookmarkStart", "bookmarkEnd", "pPr"):
            continue
        text = "".join(node.text or "" for node in run.findall(T)) if run.tag == R else ""
        if not text:
            previous, end = None, ""
            continue
        is_inside_word = previous is not None and end.isalnum() and text[0].isalnum()
        if previous is not None and is_inside_word and _marks(previous) != _marks(run):
            _remove_marks(previous)
            _remove_marks(run)
        previous, end = run, text[-1]


def _marks(run: Element) -> list[str]:
    properties = run.find(RPR)
    if properties is None:
        return []
    return [
        name
        for name in _MARKED
        if (mark := properties.find(name)) is not None and mark.get(VAL) not in _OFF
    ]


def _remove_marks(run: Element) -> None:
    properties = run.find(RPR)
    for name in _MARKED:
        if properties is not None and (mark := properties.find(name)) is not None:
            properties.remove(mark)
