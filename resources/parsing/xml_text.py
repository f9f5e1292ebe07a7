"""XML of any kind → lines that name their elements, and paragraphs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import unescape
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from resources.parsing.xml_entities import with_characters

_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)
_DOCTYPE = re.compile(r"\s*+<!DOCTYPE[^\[>]*+(?:\[.*?\]\s*+)?>", re.DOTALL)
_TAG = re.compile(r"<!--.*?(?:-->|\Z)|<!\[CDATA\[|\]\]>|<[^<>]*>", re.DOTALL)
#: Tags of HTML in the text of a feed that stand inside of lines, perhaps inside of words.
_INLINE_TAG = re.compile(
    r"</?(?:a|abbr|b|code|em|font|i|mark|q|s|small|span|strong|sub|sup|tt|u)\b[^<>]*>",
    re.IGNORECASE,
)
#: Elements that end a line of mixed text. Between others without a character between them stands a blank.
_BLOCKS = frozenset(
    (
        *("p", "para", "simpara", "div", "ab", "sp", "l", "lg", "list", "item", "li", "ul", "ol"),
        *("head", "title", "section", "sec", "table", "row", "tr", "cell", "entry", "td", "th"),
        *("note", "footnote", "fn", "quote", "blockquote", "listitem", "step", "figure", "pre"),
        *("codeblock", "lb", "br", "pb", "cb", "newline", "dt", "dd", "dl"),
    )
)
#: Elements of single characters or words: they may stand side by side inside of a word.
_MARKS = frozenset(
    (
        *("b", "i", "u", "em", "strong", "hi", "emph", "emphasis", "italic", "bold", "sub", "sup"),
        *("span", "font", "small", "big", "sc", "g", "bpt", "ept", "ph", "x", "c", "seg"),
    )
)
#: A text in an attribute: two words of three letters or more, or a script without blanks.
_PROSE = re.compile(
    r"\b[^\W\d_]{3,}+[,;:]?+ ++(?:\w{1,20} ++)?[^\W\d_]{3}|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]{2}"
)
#: Attributes of elements that show something else: pictures, links to other forms of the document.
_REFERENCES = frozenset(("href", "src", "file"))
#: Ends a line: no character of XML.
_EDGE = "\0"
_NO_PROSE = frozenset(
    ("class", "style", "id", "rend", "rendition", "type", "role", "schemaLocation")
)


def xml_text(text: str) -> str:
    """Return leaves as `element: text` lines and mixed content as paragraphs; for invalid XML, its text without tags.

    Attributes are read of elements that have a text in one of them, and of all if there is no other text. External
    entities are never loaded: expat reports them as errors here.
    """
    try:
        root = ElementTree.fromstring(with_characters(_DECLARATION.sub("", text).strip()))
    except ElementTree.ParseError:
        text = _DECLARATION.sub("", text)
        start = _DOCTYPE.match(text)
        bare = unescape(_TAG.sub("\n", text[start.end() if start else 0 :]))
        return "\n".join(filter(None, map(str.strip, bare.split("\n"))))
    read = _lines(root, _elements_with_prose(root))
    return read or _lines(root, None)


def _elements_with_prose(root: Element) -> frozenset[str]:
    """Return the names of elements with a text in an attribute: not the same one in several elements."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    differing: set[tuple[str, str]] = set()
    for element in root.iter():
        if _REFERENCES.isdisjoint(map(_local, element.keys())):
            for name, value in element.items():
                place = (element.tag, name)
                if _local(name) not in _NO_PROSE and _PROSE.search(value[:1000]):
                    counts[place] += 1
                    if first.setdefault(place, value) != value:
                        differing.add(place)
    return frozenset(
        place[0] for place, count in counts.items() if count == 1 or place in differing
    )


def _lines(root: Element, with_attributes: frozenset[str] | None) -> str:
    """Return the text; with the attributes of elements of these names, or of all elements."""
    lines: list[str] = []
    stack: list[Element | None] = [root]
    while stack:
        element = stack.pop()
        # None marks the end of an element with children, which ends a paragraph.
        if element is None:
            if lines and lines[-1]:
                lines.append("")
            continue
        if with_attributes is None or element.tag in with_attributes:
            lines += filter(None, [_attributes(element)])
        if len(element) == 0:
            if leaf := " ".join(_without_html(element.text or "").split()):
                lines.append(f"{_local(element.tag)}: {leaf}")
        elif (element.text or "").strip() or any((child.tail or "").strip() for child in element):
            lines += [*_mixed(element), ""]
        else:
            stack += [None, *reversed(element)]
    return "\n".join(lines).strip()


def _attributes(element: Element) -> str:
    stated = (
        f"{_local(name)}: {' '.join(_without_html(value).split())}"
        for name, value in element.items()
        if value.strip()
    )
    return "; ".join(stated)


def _mixed(element: Element) -> Iterator[str]:
    """Yield the lines of an element of text with elements in it."""
    pieces: list[str] = []
    stack: list[Element | str] = [element]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            pieces.append(item)
            continue
        children = list(item)
        following: list[Element | str] = [item.text or ""]
        for child, after in zip(children, [*children[1:], None], strict=False):
            edge = _EDGE if _is_block(child) else ""
            tail = child.tail or ""
            is_glued = not tail and after is not None and not (_is_mark(child) and _is_mark(after))
            following += [edge, child, edge, tail or (" " if is_glued else "")]
        stack.extend(reversed(following))
    for line in "".join(pieces).split(_EDGE):
        if words := " ".join(line.split()):
            yield words


def _is_block(element: Element) -> bool:
    return _local(element.tag).lower() in _BLOCKS and element.get("break") != "no"


def _is_mark(element: Element) -> bool:
    return _local(element.tag).lower() in _MARKS


def _without_html(text: str) -> str:
    """Return the text of a leaf without the HTML that feeds have in it."""
    if "</" not in text:
        return text
    return unescape(_TAG.sub(" ", _INLINE_TAG.sub("", text)))


def _local(name: str) -> str:
    return name.rpartition("}")[2]
