"""Cuts of blocks that are too long for one chunk: into rows, records, lines, sentences, at last anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from semantic_text_splitter import TextSplitter

from rag_assets.pipeline.chunk_blocks import GAP, GLUE, LINE, SENTENCE, Block
from rag_assets.pipeline.chunk_tables import Cut, record_cuts, table_cuts

# TextSplitter is quadratic in a stretch without sentence ends (1,000,000 Han characters: 83 s), so it reads windows.
_WINDOW_CHARS = 4000

# A block that is too long may be cut after a match of these patterns. A Latin full stop counts only before white space
# that no lower-case letter follows (so not in "e.g. this"); a Chinese, Japanese, Khmer, Burmese, Tibetan or Amharic one
# always counts. The lookbehind keeps "....." linear.
_LINE_END = re.compile(r"\n\s*\n|\n")
_SENTENCE_END = re.compile(
    r"(?P<stop>(?<![.!?؟۔।॥።])[.!?؟۔।॥።]++[\"'”’»)\]]*+\s++(?![a-z])|[。！？．｡…។៕။།።]++[」』”’）】》]*+\s*+)|\n\s*+"
)


def cut(text: str, blocks: Iterator[Block], max_chars: int) -> Iterator[Block]:
    """Cut every block that does not fit into one chunk with the headings above it."""
    glued_from = 0
    for block in blocks:
        if block.strength != GLUE:
            glued_from = block.start
        room = max_chars - (block.start - glued_from)
        if block.end - block.start <= room:
            yield block
        else:
            yield from _parts(text, block, room if room > max_chars // 2 else max_chars)


def _parts(text: str, block: Block, max_chars: int) -> Iterator[Block]:
    """Yield the parts of one block, each at most `max_chars` long with its header."""
    cursor, strength, level = block.start, block.strength, block.level
    for place in _cuts(text, block, max_chars):
        header = place.header
        room = max_chars - len(header)
        if len(text[cursor : place.end].rstrip()) > room:
            room = min(room, max_chars - len(place.continued))
        for start, stop in _fitting(text, cursor, place.end, room):
            yield Block(start, stop, block.kind, strength, level, block.title, header)
            strength, level, header = LINE, 0, place.continued
        cursor, strength = place.end, place.next_strength


def _cuts(text: str, block: Block, max_chars: int) -> Iterator[Cut]:
    """Yield the places where the block may be cut, in order; the last one is its end."""
    if block.kind == "table":
        yield from table_cuts(text, block.start, block.end, max_chars)
    elif block.kind == "text":
        yield from _text_cuts(text, block, max_chars)
    else:
        for match in _LINE_END.finditer(text, block.start, block.end):
            yield Cut(match.end(), SENTENCE if match.end() - match.start() == 1 else GAP)
        yield Cut(block.end, LINE)


def _text_cuts(text: str, block: Block, max_chars: int) -> Iterator[Cut]:
    """Yield the ends of lines and of sentences; in records, of fields instead of sentences."""
    records = _records(text, block, max_chars)
    record = next(records, None)
    record_end = block.start
    for match in _SENTENCE_END.finditer(text, block.start, block.end):
        while record and record[0] <= match.start():
            yield from record[1]
            record_end, record = record[1][-1].end, next(records, None)
        if match.start() >= record_end:
            yield Cut(match.end(), SENTENCE if match["stop"] else LINE)
    if record:
        yield from record[1]
        for _, cuts in records:
            yield from cuts
    yield Cut(block.end, LINE)


def _records(text: str, block: Block, max_chars: int) -> Iterator[tuple[int, list[Cut]]]:
    """Yield the start and the cuts of each line that is a record."""
    start = block.start
    while start < block.end:
        end = text.find("\n", start, block.end) + 1 or block.end
        if cuts := record_cuts(text, start, end, max_chars):
            yield start, cuts
        start = end


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
