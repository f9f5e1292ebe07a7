"""The vectors of `embedded_peers`, and the exact answers to its queries."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rag_assets.pipeline.chunking import ChunkingConfig, split
from resources.embedders.lexical import LexicalEmbedder
from tests.benchmarks.peer_index import QUERIES, K
from tests.benchmarks.real_text import write_real_text
from tests.benchmarks.report import say
from tests.benchmarks.workload import MAX_CHARS, markdown_files

#: Scores that differ by less are equal: each side rounds its sums in its own way.
TOLERANCE = 1e-5


def make_vectors(file: Path, rows: int) -> None:
    """Write the vectors of distinct chunks in random order: QUERIES queries, then the rows."""
    texts: dict[str, None] = {}
    with tempfile.TemporaryDirectory(prefix="rag-bench-corpus-") as folder:
        write_real_text(Path(folder), int((rows + QUERIES) * 1.1) + 100)
        for path in markdown_files(Path(folder)):
            chunks = split(path.read_text(), markdown=True, config=ChunkingConfig(MAX_CHARS))
            texts.update((chunk.content, None) for chunk in chunks)
    chosen = random.Random(0).sample(list(texts), rows + QUERIES)
    say(f"{len(texts):,} distinct chunks")
    embedder = LexicalEmbedder()
    shape = (len(chosen), embedder.dimension)
    part = file.with_suffix(".part")
    vectors = np.lib.format.open_memmap(part, "w+", np.float32, shape)
    for start in range(0, len(chosen), 1024):
        dense = embedder.embed(chosen[start : start + 1024], ["dense"]).dense
        assert dense is not None
        vectors[start : start + len(dense)] = dense
    vectors.flush()
    part.replace(file)


class Truth:
    """The exact answers, by which ids are judged: a row with a score of the ten best counts, whichever it is."""

    def __init__(self, file: Path) -> None:
        vectors = np.load(file, mmap_mode="r")
        self.queries, self._rows = np.array(vectors[:QUERIES]), vectors[QUERIES:]
        best = np.zeros((QUERIES, 0), np.float32)
        for start in range(0, len(self._rows), 20_000):
            scores = self.queries @ self._rows[start : start + 20_000].T
            best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :K]
        self._least = best[:, -1] - TOLERANCE

    def recall(self, ids: Sequence[Sequence[int]]) -> float:
        hits = sum(
            int((self._rows[np.unique(rows)] @ query >= least).sum())
            for rows, query, least in zip(ids, self.queries, self._least, strict=True)
        )
        return hits / (K * len(ids))
