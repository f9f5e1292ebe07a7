"""Splitting of a document's text into chunks along its structure: headings, code, tables, lists, paragraphs, sentences.

Every new chunk costs an embedding, so stability comes first: the text beside a boundary decides whether it survives,
chunks are never filled from the top, and an edit changes only the chunks next to it. Three steps: scan (one regex finds
the blocks), cut (blocks that are too long), pack (blocks into chunks). No ids, no storage.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from semantic_text_splitter import TextSplitter

#: Raise it with any change of this module that alters chunks: all documents are then split and embedded again.
CHUNKER_VERSION = "3"

# Section titles are stored as VARCHAR(500).
_TITLE_CHARS = 500

# TextSplitter is quadratic in a stretch without sentence ends (1,000,000 Han characters: 83 s), so it reads windows.
_WINDOW_CHARS = 4000

# Boundaries are ranked by the first characters of the block below, so that an edit later in that block keeps their
# order. With whole blocks hashed, 3 in 200 edits within a block changed more than 3 chunks; with openings, 1 in 400.
_OPENING_CHARS = 24

# Strengths of a boundary between two blocks; the weakest are removed first. A boundary before a heading of level n has
# strength _TITLE - n: the deeper the heading, the weaker.
_GLUE, _LINE, _SENTENCE, _GAP, _BLOCK, _TITLE = 0, 1, 2, 3, 4, 11

_FRONT_MATTER = re.compile(
    r"""---[ \t]*\n (?:\#[^\n]*\n)*
    [\w"'][^\n:]*+:(?:[ \t][^\n]*+)?\n
    (?:[\w"'][^\n:]*+:(?:[ \t][^\n]*+)?\n|[ \t\#\-\]}][^\n]*+\n|\n)*?
    (?:---|\.\.\.)[ \t]*+(?:\n|\Z)""",
    re.VERBOSE,
)

# A paragraph is a run of lines up to a blank line or to the start of a heading, a fence or an HTML block.
_PARAGRAPH = r"""[^\S\n]*+\S[^\n]*+(?:
    \n(?![ ]{0,3}(?:\#{1,6}(?:[ \t]|$)|<(?:!--|pre\b|script\b|style\b))|[ \t]*+(?:```|~~~))
    [^\S\n]*+\S[^\n]*+)*+"""

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
    | (?P<table>(?=[^\n|]*+\|[^\n]*+\n[ \t]*+\|?[ \t:]*+-[ \t:|-]*+$){_PARAGRAPH})
    | (?P<text>{_PARAGRAPH})
    )""",
    re.MULTILINE | re.VERBOSE,
)
_PLAIN = re.compile(r"^(?P<text>[^\S\n]*+\S[^\n]*+(?:\n[^\S\n]*+\S[^\n]*+)*+)", re.MULTILINE)

# A block that is too long may be cut after a match of these patterns. A Latin full stop counts only before white space
# that no lower-case letter follows (so not in "e.g. this"); a Chinese, Japanese, Khmer, Burmese, Tibetan or Amharic one
# always counts. The lookbehind keeps "....." linear.
_LINE_END = re.compile(r"\n\s*\n|\n")
_SENTENCE_END = re.compile(
    r"(?P<stop>(?<![.!?؟۔।॥።])[.!?؟۔।॥።]++[\"'”’»)\]]*+\s++(?![a-z])|[。！？．｡…។៕။།።]++[」』”’）】》]*+\s*+)|\n\s*+"
)

# The closing marks of a heading, or its anchor: `{ #anchor }`.
_TITLE_NOISE = re.compile(r"(?:[ \t]+#+)?[ \t]*$|\s*\{\s*#[^{}]*\}\s*$")

# Scripts written without spaces are counted by character: kana and Han, with the planes above U+20000.
_SPACELESS = r"\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")
# For bytes.translate, which is faster than a regex: every byte that is not part of a word becomes a blank.
_ASCII_WORDS = re.sub(rb"\W", b" ", bytes(range(256)))


@dataclass(frozen=True, slots=True)
class ChunkingConfig:
    """Chunk sizes in code points.

    No chunk is longer than `max_chars`. Within a section, neighbours are joined wherever they fit; across a heading,
    only if one of the two is shorter than twice `min_chars`.
    """

    max_chars: int = 1000
    min_chars: int = 200

    def __post_init__(self) -> None:
        if self.max_chars < 1 or not 0 <= self.min_chars <= self.max_chars:
            raise ValueError(
                f"expected max_chars >= 1 and min_chars from 0 to max_chars, "
                f"found max_chars={self.max_chars}, min_chars={self.min_chars}"
            )

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the chunker version and with either size."""
        identity = f"{CHUNKER_VERSION}:{self.max_chars}:{self.min_chars}"
        return hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()


_DEFAULT = ChunkingConfig()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document. `content` is the exact text given to the embedder, never blank.

    `chunk_type`: text | heading | code | table | list. `position`: 0..n-1. `section_title` and `hierarchy_level`: of
    the heading that opens the chunk, else of the innermost heading above it (None and 1 without a heading). `parent`:
    position of the chunk with that heading; for a chunk that opens with a heading, of the next outer heading.
    `token_count`: an estimate: words, with Han and kana characters counted one by one. `start`: offset of the chunk in
    the text, with every newline counted as one character and without a byte order mark.
    """

    content: str
    chunk_type: str
    position: int
    section_title: str | None
    hierarchy_level: int
    parent: int | None
    token_count: int
    start: int


class _Block(NamedTuple):
    """`text[start:end]`: ends on a character that is not blank, starts on one or on the indentation of its line.

    `strength`: of the boundary before the block. `level` (1 to 6) and `title`: of a heading. `header`: of the table
    that this row belongs to, repeated where a chunk opens with the row.
    """

    start: int
    end: int
    kind: str
    strength: int
    level: int = 0
    title: str = ""
    header: str = ""


def split(text: str, *, markdown: bool, config: ChunkingConfig = _DEFAULT) -> list[Chunk]:
    """Return the chunks of a text in reading order; an empty list for a blank text.

    The chunks contain all text that is not blank, in order and once. Exceptions: a byte order mark and YAML front
    matter are dropped; the header of a table that must be cut is repeated in every part where it fits.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.removeprefix("\ufeff")
    blocks = list(_cut(text, _scan(text, markdown), config.max_chars))
    return _chunks(text, blocks, _pack(text, blocks, config))


def _scan(text: str, markdown: bool) -> Iterator[_Block]:
    """Yield the blocks. A heading is glued to the block below, unless that is a heading of equal or higher rank."""
    pattern = _MARKDOWN if markdown else _PLAIN
    front_matter = _FRONT_MATTER.match(text) if markdown else None
    # Level of the heading directly above the block, 0 if there is none.
    level_above = 0
    in_list = False
    for match in pattern.finditer(text, front_matter.end() if front_matter else 0):
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
            strength = _GLUE
        else:
            strength = _TITLE - level if level else _BLOCK
        level_above = level
        yield _Block(start, end, kind, strength, level, title)


def _cut(text: str, blocks: Iterator[_Block], max_chars: int) -> Iterator[_Block]:
    """Cut every block that does not fit into one chunk with the headings above it into rows, lines or sentences."""
    glued_from = 0
    for block in blocks:
        if block.strength != _GLUE:
            glued_from = block.start
        room = max_chars - (block.start - glued_from)
        if block.end - block.start <= room:
            yield block
        else:
            yield from _parts(text, block, room if room > max_chars // 2 else max_chars)


def _parts(text: str, block: _Block, max_chars: int) -> Iterator[_Block]:
    """Yield the parts of one block, each at most `max_chars` long."""
    cuts = [*_cuts(text, block), (block.end, _LINE)]
    header = ""
    if block.kind == "table" and len(cuts) > 2 and cuts[1][0] - block.start <= max_chars // 2:
        header = text[block.start : cuts[1][0]]
        cuts[:2] = [(cuts[1][0], _GLUE)]
    cursor, strength, level = block.start, block.strength, block.level
    for end, next_strength in cuts:
        fits = cursor > block.start and len(header) + end - cursor <= max_chars
        for start, stop in _fitting(text, cursor, end, max_chars):
            yield _Block(
                start, stop, block.kind, strength, level, block.title, header if fits else ""
            )
            strength, level = _LINE, 0
        cursor, strength = end, next_strength


def _cuts(text: str, block: _Block) -> Iterator[tuple[int, int]]:
    """Yield the offsets where a block may be cut, each with the strength of that boundary."""
    if block.kind == "text":
        for match in _SENTENCE_END.finditer(text, block.start, block.end):
            yield match.end(), _SENTENCE if match["stop"] else _LINE
    else:
        for match in _LINE_END.finditer(text, block.start, block.end):
            yield match.end(), _SENTENCE if match.end() - match.start() == 1 else _GAP


def _fitting(text: str, start: int, end: int, max_chars: int) -> Iterator[tuple[int, int]]:
    """Yield `text[start:end]` as spans of at most `max_chars`; no span is blank or ends with a blank."""
    part = text[start:end].rstrip()
    if len(part) <= max_chars:
        if part:
            yield start, start + len(part)
        return
    for window in range(0, len(part), _WINDOW_CHARS):
        stretch = part[window : window + _WINDOW_CHARS]
        for offset, piece in _splitter(max_chars).chunk_indices(stretch):
            # Python strips blanks that the splitter, in Rust, does not know: U+001C to U+001F.
            stripped = piece.strip()
            if stripped:
                first = start + window + offset + piece.index(stripped)
                yield first, first + len(stripped)


@cache
def _splitter(max_chars: int) -> TextSplitter:
    return TextSplitter(max_chars)


def _pack(text: str, blocks: list[_Block], config: ChunkingConfig) -> list[int]:
    """Return the index of the first block of each chunk.

    Starts with one chunk per block and removes boundaries wherever the resulting chunk fits: the weakest first, equal
    ones in the order of a hash of the block below. A removal depends on weaker boundaries beside it, these on still
    weaker ones, and such a chain is short. In 1,000 paragraphs a changed word changed 1 chunk, a paragraph that grew or
    shrank 1.3 on average (99.7 %: at most 3), a replaced paragraph 1.6 (98.8 %: at most 3), never more than 5. A hard
    bound needs boundaries that ignore their neighbours: those tried left chunks 54 to 66 % full and the tail as long.
    No two neighbours within a section would fit into one chunk, so chunks are about 70 % full.
    """
    order = sorted((_rank(text, block), index) for index, block in enumerate(blocks) if index)
    # The first block of a chunk, by its last block; and the last block, by the first.
    first_of = list(range(len(blocks)))
    last_of = first_of.copy()
    opens = bytearray(b"\1") * len(blocks)
    across_headings = _TITLE - 6 << 64
    for key, index in order:
        opening, closing = first_of[index - 1], last_of[index]
        start, end = blocks[opening].start, blocks[closing].end
        if end - start + len(blocks[opening].header) > config.max_chars:
            continue
        if key >= across_headings:
            shorter = min(blocks[index - 1].end - start, end - blocks[index].start)
            if shorter >= 2 * config.min_chars:
                continue
        opens[index] = 0
        last_of[opening], first_of[closing] = closing, opening
    return [index for index, opens_chunk in enumerate(opens) if opens_chunk]


def _rank(text: str, block: _Block) -> int:
    """Strength, then a hash of the block's opening, then a hash of the whole block (table rows may open alike)."""
    opening = text[block.start : min(block.end, block.start + _OPENING_CHARS)]
    whole = text[block.start : block.end]
    return block.strength << 64 | zlib.crc32(opening.encode()) << 32 | zlib.crc32(whole.encode())


def _chunks(text: str, blocks: list[_Block], firsts: list[int]) -> list[Chunk]:
    """Return the chunks that open with the blocks `firsts`, each with its place in the outline of the text."""
    chunks: list[Chunk] = []
    # The enclosing headings, outer to inner: level, title, position of the chunk.
    outline: list[tuple[int, str, int]] = []
    for position, (first, after) in enumerate(pairwise([*firsts, len(blocks)])):
        kinds: set[str] = set()
        level, title, parent = outline[-1] if outline else (1, None, None)
        for index in range(first, after):
            block = blocks[index]
            if not block.level:
                kinds.add(block.kind)
                continue
            while outline and outline[-1][0] >= block.level:
                outline.pop()
            if index == first:
                level, title = block.level, block.title
                parent = outline[-1][2] if outline else None
            outline.append((block.level, block.title, position))
        content = blocks[first].header + text[blocks[first].start : blocks[after - 1].end]
        kind = "heading" if not kinds else kinds.pop() if len(kinds) == 1 else "text"
        tokens = _token_count(content)
        start = blocks[first].start
        chunks.append(Chunk(content, kind, position, title or None, level, parent, tokens, start))
    return chunks


def _token_count(content: str) -> int:
    if content.isascii():
        return len(content.encode().translate(_ASCII_WORDS).split())
    return len(_TOKEN.findall(content))
