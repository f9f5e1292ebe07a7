"""Documents of any size from real paragraphs: those of the corpora beside the project, in ever other orders.

The corpora have about 10,000 distinct chunks. So each round over them shuffles their paragraphs, and cuts long ones,
which would be the same chunk in each round. 99 % of the chunks are distinct texts, also of 300,000.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from tests.benchmarks import memory
from tests.benchmarks.rag_command import ROOT

CORPORA = ROOT.parent / "shared" / "data" / "corpora"
#: Not by language: it has its pages in several versions.
VERSIONS = "milvus-docs-versions"
#: Characters per chunk of these documents, and paragraphs per document.
CHUNK_CHARACTERS, PARAGRAPHS = 705, 40
#: Characters of a piece of a long paragraph: two or more are in each chunk.
PIECE = 350
#: Chunks of a document of `memory`, which is used without the corpora.
GENERATED_CHUNKS = 12

_SENTENCES = re.compile(r"[^.!?。！？\n]*[.!?。！？\n]*\s*")


def write_real_text(folder: Path, chunks: int) -> int:
    """Write documents of about so many chunks. Returns the number of documents."""
    groups = _paragraphs()
    if not groups:
        documents = max(1, chunks // GENERATED_CHUNKS)
        memory.write_corpus(folder, documents)
        return documents
    remaining, documents = chunks * CHUNK_CHARACTERS, 0
    for turn in count():
        for name, paragraphs in groups.items():
            if turn:
                paragraphs = [piece for paragraph in paragraphs for piece in pieces(paragraph)]
                random.Random(f"{name} {turn}").shuffle(paragraphs)
            target = folder / f"{turn:02}" / name
            target.mkdir(parents=True, exist_ok=True)
            for start in range(0, len(paragraphs), PARAGRAPHS):
                text = "\n\n".join(paragraphs[start : start + PARAGRAPHS])
                (target / f"{start}.md").write_text(text, encoding="utf-8")
                documents, remaining = documents + 1, remaining - len(text)
                if remaining <= 0:
                    return documents
    raise AssertionError("count() has no end")


def pieces(paragraph: str) -> Iterator[str]:
    """Yield the sentences or lines of a paragraph, joined up to PIECE characters."""
    piece = ""
    for sentence in _SENTENCES.findall(paragraph):
        if piece and len(piece) + len(sentence) > PIECE:
            yield piece.strip()
            piece = ""
        piece += sentence
    if piece.strip():
        yield piece.strip()


def _paragraphs() -> dict[str, list[str]]:
    """Corpus and language -> its distinct paragraphs."""
    seen: set[str] = set()
    groups: dict[str, list[str]] = {}
    for path in sorted(CORPORA.rglob("*.md")):
        corpus, language, *_ = path.relative_to(CORPORA).parts
        group = groups.setdefault(corpus if corpus == VERSIONS else f"{corpus}-{language}", [])
        for paragraph in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            if 40 <= len(paragraph) <= 4000 and paragraph not in seen:
                seen.add(paragraph)
                group.append(paragraph)
    return groups
