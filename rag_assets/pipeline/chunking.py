"""Splitting of a document's text into chunks along its structure: headings, code, tables, lists, paragraphs, sentences.

Every new chunk costs an embedding, so stability comes first: the text beside a boundary decides whether it survives,
chunks are never filled from the top, and an edit changes only the chunks next to it. Three steps: scan (`chunk_blocks`
finds the blocks), cut (`chunk_cuts`: blocks that are too long), pack (`chunk_packing`: blocks into chunks). No ids, no
storage.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise

from rag_assets.pipeline.chunk_blocks import Block, scan
from rag_assets.pipeline.chunk_cuts import cut
from rag_assets.pipeline.chunk_packing import pack

#: Raise it with any change of this module or its steps that alters chunks: all documents are then split again, and
#: changed chunks are embedded.
CHUNKER_VERSION = "5"

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


def split(text: str, *, markdown: bool, config: ChunkingConfig = _DEFAULT) -> list[Chunk]:
    """Return the chunks of a text in reading order; an empty list for a blank text.

    The chunks contain all text that is not blank, in order and once. Exceptions: a byte order mark and front
    matter are dropped; the names of a table's columns are repeated in every part of it, shortened if they are long.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.removeprefix("\ufeff")
    blocks = list(cut(text, scan(text, markdown=markdown), config.max_chars))
    return _chunks(text, blocks, pack(text, blocks, config.max_chars, config.min_chars))


def _chunks(text: str, blocks: list[Block], firsts: list[int]) -> list[Chunk]:
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
