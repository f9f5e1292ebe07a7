"""The content of a web page, cut out of its HTML: without menus, side columns and footers around it.

Inside of the content (`main`, `article`, a quotation, the column of the text) the same elements are content: a warning
in `aside`, the citation in the `footer` of a quotation, the `noscript` that replaces an embedded video.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: Comments and scripts are passed over. A quoted value may contain brackets; every alternative is linear.
_TAG = re.compile(
    r"""<!--.*?(?:-->|\Z)
    | (?P<raw><(?P<script>script|style)\b[^<>]*>(?:.*?</(?P=script)\s*>|.*\Z))
    | <(?P<close>/?)(?P<name>[a-z][a-z0-9]*)\b
      (?P<attributes>(?:=\s*+"[^"]*+"|=\s*+'[^']*+'|[^<>])*+)>""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE = re.compile(
    r"""\b(role|id|class|itemprop)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE
)
_LETTERS = re.compile(r"[^\W_]")
#: Elements that are followed; their end tags are required. `p` and others are only noticed.
_FOLLOWED = frozenset(
    (
        *("body", "main", "article", "section", "div", "aside", "footer", "nav", "header"),
        *("blockquote", "figure", "details", "dialog", "fieldset", "form", "noscript", "template"),
    )
)
_PROSE = frozenset(("p", "pre", "blockquote"))
_KINDS = {
    "nav": "nav",
    "aside": "aside",
    "footer": "footer",
    "noscript": "unseen",
    "template": "unseen",
}
_KINDS_OF_ROLES = {
    **dict.fromkeys(("navigation", "menu", "menubar", "search", "doc-toc"), "menu"),
    "complementary": "aside",
    "contentinfo": "footer",
    "main": "main",
    "article": "article",
}
#: What stands in them is content. A section counts only if it contains paragraphs: some pages are one section.
_CONTENT = frozenset(("main", "article", "blockquote", "figure", "details", "dialog"))
#: Values of id, class and itemprop that name the element of the content.
_CONTENT_NAMES = frozenset(
    (
        *("content", "main", "main-content", "maincontent", "page-content", "pagecontent"),
        *("post-content", "entry-content", "article-content", "article-body", "articlebody"),
        *("story-body", "post-body", "entry-body", "body-content", "bodycontent"),
        *("markdown-body", "mw-content-text", "mw-parser-output", "document", "documentation"),
        *("docs-content", "inhalt", "contenu", "contenido", "conteudo", "contenuto"),
    )
)
#: Roles of notes: content wherever they stand.
_NOTES = ("note", "alert", "status", "doc-")
#: An element is a menu if at most this share of its letters is outside links.
MENU_SHARE = 0.15
#: A `<main>` or a single `<article>` below this share of the page is a teaser, not the content.
_MAIN_SHARE = 0.2


@dataclass(slots=True)
class _Element:
    """An element in the page, its place among the tags, and what is known of it.

    `letters` and `linked`: of its text, and of the part in links. `prose`: the first and last paragraph directly in it.
    """

    kind: str
    parent: int
    start: int
    inner: int
    end: int = -1
    inner_end: int = -1
    letters: int = 0
    linked: int = 0
    is_named: bool = False
    is_note: bool = False
    prose: tuple[int, int] | None = None


def content_of(html: str) -> str:
    """Return the page with its content only: the `<main>`, or the `<article>` if there is one, else the `<body>`."""
    elements, scripts = _elements(html)
    dropped, renamed = _furniture(elements)
    edits = sorted([*_edits(elements, dropped, renamed), *((*script, "") for script in scripts)])
    body = next((e for e in elements if e.kind == "body"), None)
    start, end = (body.inner, body.inner_end) if body else (0, len(html))
    for kind in ("main", "article"):
        if root := _only(elements, kind, dropped):
            content = _applied(html, edits, root.inner, root.inner_end)
            if len(content) > _MAIN_SHARE * len(_applied(html, edits, start, end)):
                head = _applied(html, edits, 0, body.start) if body else ""
                return f"{head}<body>{content}</body>"
            break
    page = _applied(html, edits, 0, len(html))
    # A page whose text stands in such elements alone.
    if dropped and not _has_text(_applied(html, edits, start, end)):
        unseen = [n for n in dropped if elements[n].kind == "unseen"]
        edits = sorted([*_edits(elements, unseen, renamed), *((*script, "") for script in scripts)])
        return _applied(html, edits, 0, len(html))
    return page


def _elements(html: str) -> tuple[list[_Element], list[tuple[int, int]]]:
    """Return the followed elements in the order of their start tags, and the extents of scripts and styles.

    An element without an end tag ends with the element around it; without one around it, `end` stays -1.
    """
    elements: list[_Element] = []
    scripts: list[tuple[int, int]] = []
    open_elements: list[int] = []
    counts: dict[str, int] = {}
    names: list[str] = []
    letters = linked = links = cursor = 0
    for tag in _TAG.finditer(html):
        count = len(_LETTERS.findall(html, cursor, tag.start()))
        letters += count
        linked += count if links else 0
        cursor = tag.end()
        name = (tag["name"] or "").lower()
        if tag["raw"] and tag["raw"].rstrip().endswith(">"):
            scripts.append(tag.span())
        elif name == "a":
            links = 0 if tag["close"] else 1
        elif name in _FOLLOWED and not tag["close"]:
            if tag["attributes"].endswith("/"):
                continue
            parent = open_elements[-1] if open_elements else -1
            element = _element(name, tag, parent)
            element.letters, element.linked = -letters, -linked
            if name in _PROSE:
                _note_prose(elements, parent, tag.start())
            open_elements.append(len(elements))
            elements.append(element)
            names.append(name)
            counts[name] = counts.get(name, 0) + 1
        elif name in _FOLLOWED and counts.get(name):
            while open_elements:
                n = open_elements.pop()
                counts[names[n]] -= 1
                is_match = names[n] == name
                element = elements[n]
                element.inner_end = tag.start()
                element.end = tag.end() if is_match else tag.start()
                element.letters += letters
                element.linked += linked
                if is_match:
                    break
        elif name in _PROSE and not tag["close"] and open_elements:
            _note_prose(elements, open_elements[-1], tag.start())
    for n in open_elements:
        elements[n].inner_end = len(html)
        if elements[n].kind in ("body", "main", "article"):
            elements[n].end = len(html)
    return elements, scripts


def _element(name: str, tag: re.Match[str], parent: int) -> _Element:
    attributes: dict[str, str] = {}
    for attribute, *values in _ATTRIBUTE.findall(tag["attributes"]):
        attributes.setdefault(attribute.lower(), "".join(values).lower())
    roles = attributes.get("role", "").split()
    kind = next((_KINDS_OF_ROLES[role] for role in roles if role in _KINDS_OF_ROLES), None)
    if name in ("nav", "noscript", "template"):
        # The extractor drops them, whatever their role.
        kind = None
    names = {
        value
        for attribute in ("id", "class", "itemprop")
        for value in attributes.get(attribute, "").split()
    }
    return _Element(
        kind=kind or _KINDS.get(name, name),
        parent=parent,
        start=tag.start(),
        inner=tag.end(),
        is_named=name in ("div", "section") and bool(names & _CONTENT_NAMES),
        is_note=any(role.startswith(_NOTES) for role in roles),
    )


def _note_prose(elements: list[_Element], parent: int, place: int) -> None:
    if parent >= 0:
        known = elements[parent].prose
        elements[parent].prose = (known[0] if known else place, place)


def _furniture(elements: list[_Element]) -> tuple[list[int], list[int]]:
    """Return the elements to drop, and those to keep that the extractor knows as furniture."""
    dropped: list[int] = []
    renamed: list[int] = []
    # Whether the element stands in content, by element.
    in_content: list[bool] = []
    mains = {n for n, e in enumerate(elements) if e.kind in ("main", "article")}
    # The ancestors of main content are no furniture.
    around: set[int] = set()
    for n in mains:
        ancestor = elements[n].parent
        while ancestor >= 0 and ancestor not in around:
            around.add(ancestor)
            ancestor = elements[ancestor].parent
    for n, element in enumerate(elements):
        parent = elements[element.parent] if element.parent >= 0 else None
        inside = parent is not None and (in_content[element.parent] or _is_content(parent))
        in_content.append(inside)
        if element.kind not in ("nav", "menu", "aside", "footer", "unseen") or element.end < 0:
            continue
        is_menu = element.letters - element.linked <= MENU_SHARE * element.letters
        if inside:
            # Labels beside its links do not make a menu a text.
            is_menu |= element.kind == "nav" and element.prose is None
            is_kept = bool(element.letters) and not is_menu
        else:
            is_kept = element.is_note or n in around or _is_in_prose(element, parent)
        if not is_kept:
            dropped.append(n)
        elif element.kind in ("nav", "unseen"):
            renamed.append(n)
    return dropped, renamed


def _is_content(element: _Element) -> bool:
    return (
        element.kind in _CONTENT
        or element.is_named
        or (element.kind == "section" and element.prose is not None)
    )


def _is_in_prose(element: _Element, parent: _Element | None) -> bool:
    """Return whether an aside stands among paragraphs: in their column, in the body between two of them."""
    if parent is None or parent.prose is None or element.kind != "aside":
        return False
    first, last = parent.prose
    return parent.kind != "body" or first < element.start < last


def _edits(
    elements: list[_Element], dropped: list[int], renamed: list[int]
) -> Iterator[tuple[int, int, str]]:
    for n in dropped:
        yield elements[n].start, elements[n].end, ""
    for n in renamed:
        element = elements[n]
        yield element.start, element.inner, "<div>"
        yield element.inner_end, element.end, "</div>"


def _applied(html: str, edits: list[tuple[int, int, str]], start: int, end: int) -> str:
    """Return `html[start:end]` with the edits in it; an edit inside another one is skipped."""
    parts: list[str] = []
    cursor = start
    for first, after, text in edits:
        if cursor <= first and after <= end:
            parts += html[cursor:first], text
            cursor = after
    return "".join([*parts, html[cursor:end]])


def _only(elements: list[_Element], kind: str, dropped: list[int]) -> _Element | None:
    """Return the one element of a kind that stands neither in another one nor in furniture; None if there are more."""
    passed = set(dropped)
    outer: list[_Element] = []
    for n, element in enumerate(elements):
        parent = element.parent
        if parent in passed or (parent >= 0 and elements[parent].kind == kind):
            passed.add(n)
        elif element.kind == kind:
            outer.append(element)
    return outer[0] if len(outer) == 1 else None


def _has_text(html: str) -> bool:
    return _LETTERS.search(_TAG.sub("", html)) is not None
