"""Formulas of Word in the sentences in which they stand.

The extractor writes a formula of a paragraph in front of it, and loses that of a heading. So each formula with text
around it becomes a mark, and stands alone behind the document, where the extractor turns it into LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from resources.parsing.office.package import name_of
from resources.parsing.office.word_text import PPR, P, R, paragraph_of, text_element, text_of

_FORMULAS = (name_of("m", "oMath"), name_of("m", "oMathPara"))
_CELL = name_of("w", "tc")
#: Properties of headings and list items.
_STYLED = (f"{PPR}/{name_of('w', 'pStyle')}", f"{PPR}/{name_of('w', 'numPr')}")
_MARK, _MARK_END, _END = "\ufdd6", "\ufdd7", "\ufdd8"
_MARKED = re.compile(f"{_MARK}([0-9]+){_MARK_END}")
_LATEX = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)


def place_formulas(root: Element) -> list[Element]:
    """Replace the formulas inside of paragraphs by marks; return the blocks that follow the document."""
    if next(root.iter(_FORMULAS[0]), None) is None:
        return []
    # In tables, the extractor writes them in their places.
    in_cells = {paragraph for cell in root.iter(_CELL) for paragraph in cell.iter(P)}
    blocks: list[Element] = []
    for paragraph in root.iter(P):
        if paragraph in in_cells or _is_alone(paragraph):
            continue
        for parent, index, formula in list(_formulas(paragraph)):
            number = len(blocks) // 2
            mark = f"{_MARK}{number}{_MARK_END}"
            run = Element(R)
            run.append(text_element(f" {mark} " if formula.tag == _FORMULAS[1] else mark))
            parent[index] = run
            alone = Element(P)
            alone.append(formula)
            blocks += [paragraph_of(mark), alone]
    return [paragraph_of(_END), *blocks] if blocks else []


def _is_alone(paragraph: Element) -> bool:
    """Return whether the formulas of a paragraph are all of it, and it is a block of its own."""
    return not text_of(paragraph).strip() and all(paragraph.find(p) is None for p in _STYLED)


def _formulas(paragraph: Element) -> Iterator[tuple[Element, int, Element]]:
    stack = [paragraph]
    while stack:
        parent = stack.pop()
        for index, child in enumerate(parent):
            if child.tag in _FORMULAS:
                yield parent, index, child
            else:
                stack.append(child)


def formulas_in_markdown(markdown: str) -> str:
    """Return the extractor's Markdown with the formulas in their places."""
    text, end, behind = markdown.partition(_END)
    if not end:
        return markdown
    # Number, LaTeX, number, LaTeX …, without what stands before the first number.
    parts = _MARKED.split(behind)[1:]
    latex = {
        number: f"${found[1]}$"
        for number, block in zip(parts[::2], parts[1::2], strict=True)
        if (found := _LATEX.search(block))
    }
    return _MARKED.sub(lambda mark: latex.get(mark[1], ""), text).rstrip()
