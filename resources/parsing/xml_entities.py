"""Characters that XML writes by name or number: `caf&eacute;`, and in Office files `_x000D_`."""

from __future__ import annotations

import re
from html.entities import html5

_NAMED = re.compile(r"&([A-Za-z]\w{1,30});")
_NUMBERED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_OF_XML = frozenset(("amp", "lt", "gt", "quot", "apos"))


def with_characters(xml: str) -> str:
    """Return the XML with the characters that HTML has names for; names that the document defines stay."""
    if "&" not in xml:
        return xml

    def character(reference: re.Match[str]) -> str:
        name = reference[1]
        if name in _OF_XML or f"<!ENTITY {name} " in head:
            return reference[0]
        return html5.get(f"{name};", reference[0])

    head = xml[:20_000]
    return _NAMED.sub(character, xml)


def with_office_characters(text: str) -> str:
    """Return the text of an Office file with the characters that XML does not allow, such as the end of a line."""
    return _NUMBERED.sub(lambda code: chr(int(code[1], 16)), text) if "_x" in text else text
