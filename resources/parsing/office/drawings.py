"""The text of drawings that lies in parts of its own: SmartArt and charts, of Word and PowerPoint alike."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from resources.parsing.office.package import Package, Relationship, UnreadableOffice, name_of

_PARAGRAPH, _TEXT = name_of("a", "p"), name_of("a", "t")
DIAGRAM, CHART = name_of("dgm", "relIds"), name_of("c", "chart")


def drawing_texts(
    element: Element, package: Package, relationships: Mapping[str, Relationship]
) -> list[str]:
    """Return the lines of the SmartArt or chart that `element` refers to, empty for other elements."""
    if element.tag == DIAGRAM:
        reference = element.get(name_of("r", "dm"))
    elif element.tag == CHART:
        reference = element.get(name_of("r", "id"))
    else:
        return []
    relationship = relationships.get(reference or "")
    if relationship is None or relationship.target not in package:
        return []
    try:
        root = package.tree(relationship.target)
    except UnreadableOffice:
        return []
    lines = ["".join(node.text or "" for node in p.iter(_TEXT)) for p in root.iter(_PARAGRAPH)]
    if element.tag == CHART:
        # Names of series and categories. Their values are numbers without context.
        for strings in root.iter(name_of("c", "strCache")):
            lines.append(", ".join(node.text or "" for node in strings.iter(name_of("c", "v"))))
    return [line for line in dict.fromkeys(" ".join(line.split()) for line in lines) if line]
