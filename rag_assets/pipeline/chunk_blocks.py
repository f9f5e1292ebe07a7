"""The blocks of a text: headings, code, HTML, lists, tables and paragraphs, found by one regular expression.

Front matter is no block. `chunk_cuts` cuts blocks that are too long, `chunk_packing` joins short ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from rag_assets.pipeline.front_matter import read_front_matter

# Section titles are stored as VARCHAR(500).
_TITLE_CHARS = 500

# Strengths of a boundary between two blocks; the weakest are removed first. A boundary before a heading of level n has
# strength TITLE - n: the deeper the heading, the weaker. APART is never removed.
GLUE, LINE, SENTENCE, GAP, BLOCK, TITLE, APART = 0, 1, 2, 3, 4, 11, 12

# Below the first line of a table that Markdown has, or below up to four lines of names, if the rule has a bar.
_RULE = r"[ \t]*+\|?[ \t:]*+-[ \t:|-]*+$"
_RULE_WITH_BAR = r"[ \t]*+\|?[ \t:]*+-[ \t:-]*+\|[ \t:|-]*+$"
_ROW = r"[^\n|]*+\|[^\n]*+\n"
_TABLE = rf"{_ROW}(?:{_RULE}|(?:{_ROW}){{1,3}}?{_RULE_WITH_BAR})"
# Inside a paragraph: only if its lines begin with a bar, and within three lines.
_BARRED_ROW = r"[ \t]*+\|[^\n]*+\n"
_BARRED_TABLE = rf"(?:{_BARRED_ROW}){{1,3}}?{_RULE_WITH_BAR}"

# A paragraph is a run of lines up to a blank line or to the start of a heading, a fence or an HTML block.
_PARAGRAPH = r"""[^\S\n]*+\S[^\n]*+(?:
    \n(?![ ]{0,3}(?:\#{1,6}(?:[ \t]|$)|<(?:!--|pre\b|script\b|style\b))|[ \t]*+(?:```|~~~))
    [^\S\n]*+\S[^\n]*+)*+"""
# A table may follow it without a blank line.
_TEXT = _PARAGRAPH.replace(r"\n(?!", rf"\n(?!{_BARRED_TABLE}|")

# A title above a rule of = or - is one line; a longer paragraph above a rule stays a paragraph. An unclosed block
# runs to the end of the text, as in CommonMark. This rule and the possessive quantifiers keep the scan linear.
_MARKDOWN = re.compile(
    rf"""^(?:
      [ ]{{0,3}}(?P<marks>\#{{1,6}})(?P<heading>[ \t][^\n]*+)?$
    | (?P<code>[ \t]*+(?P<fence>`{{3,}}+(?=[^`\n]*+$)|~{{3,}}+)[^\n]*+
        (?:\n[^\n]*+)*?(?:\n[ \t]*+(?P=fence)[`~]*+[ \t]*+$|\Z))
    | (?P<html>[ ]{{0,3}}<(?:!--[\s\S]*?(?:-->|\Z)
        |(?P<tag>pre|script|style)\b[\s\S]*?(?:</(?P=tag)>|\Z))[^\n]*+)
    | [ ]{{0,3}}(?![>|]|[-*+][ \t]|\d{{1,9}}[.)][ \t])(?P<setext>\S[^\n]*+)\n[ ]{{0,3}}(?P<rule>=++|-++)[ \t]*+$
    | (?P<list>(?=[ \t]*+(?:[-*+]|\d{{1,9}}[.)])[ \t]+\S){_PARAGRAPH})
    | (?P<table>(?={_TABLE}){_PARAGRAPH})
    | (?P<text>{_TEXT})
    )""",
    re.MULTILINE | re.VERBOSE,
)
_PLAIN = re.compile(r"^(?P<text>[^\S\n]*+\S[^\n]*+(?:\n[^\S\n]*+\S[^\n]*+)*+)", re.MULTILINE)

# The closing marks of a heading, or its anchor: `{ #anchor }`.
_TITLE_NOISE = re.compile(r"(?:[ \t]+#+)?[ \t]*$|\s*\{\s*#[^{}]*\}\s*$")


class Block(NamedTuple):
    """`text[start:end]`: ends on a character that is not blank, starts on one or on the indentation of its line.

    `strength`: of the boundary before the block. `level` (1 to 6) and `title`: of a heading. `header`: a text that is
    repeated where a chunk opens with the block: the names of the columns of a row.
    """

    start: int
    end: int
    kind: str
    strength: int
    level: int = 0
    title: str = ""
    header: str = ""


def scan(text: str, *, markdown: bool) -> Iterator[Block]:
    """Yield the blocks. A heading is glued to the block below, unless that is a heading of equal or higher rank."""
    pattern = _MARKDOWN if markdown else _PLAIN
    front_matter = read_front_matter(text) if markdown else None
    # Level of the heading directly above the block, 0 if there is none.
    level_above = 0
    in_list = False
    # Where the paragraph directly above ends, with its newline.
    paragraph_end = -1
    for match in pattern.finditer(text, front_matter.end if front_matter else 0):
        start, end = match.span()
        while text[end - 1].isspace():
            end -= 1
        kind, level, title = match.lastgroup or "text", 0, ""
        if marks := markdown and (match["marks"] or match["rule"]):
            level = len(marks) if marks[0] == "#" else 1 if marks[0] == "=" else 2
            title = _TITLE_NOISE.sub("", match["heading"] or match["setext"] or "").strip()
            title = title[:_TITLE_CHARS].rstrip()
            kind = "heading"
        elif kind == "html":
            kind = "code" if match["tag"] == "pre" else "text"
        indented = text[start] in " \t"
        if kind == "text" and markdown and indented:
            if in_list:
                kind = "list"
            elif text.startswith(("    ", "\t"), start):
                kind = "code"
        if not indented:
            in_list = kind == "list"
        if level_above and (level == 0 or level > level_above):
            strength = GLUE
        elif kind == "table" and start == paragraph_end:
            # The paragraph says what the table is.
            strength = LINE
        else:
            strength = TITLE - level if level else BLOCK
        level_above = level
        paragraph_end = match.end() + 1 if match.lastgroup == "text" else -1
        yield Block(start, end, kind, strength, level, title)
