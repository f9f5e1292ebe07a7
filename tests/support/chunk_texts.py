"""Random texts for tests of the chunker, and its chunks as texts."""

from __future__ import annotations

import random

from rag_assets.pipeline.chunking import split

WORDS = ["the", "partition", "holds", "rows", "that", "a", "query", "reads", "and", "merges"]


def sentence(rng: random.Random, low: int, high: int) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(low, high))]
    words[-1] += str(rng.randrange(1_000_000))
    return " ".join(words).capitalize() + "."


def squeezed(text: str) -> str:
    return "".join(text.split())


def contents(text: str, *, markdown: bool = True) -> list[str]:
    return [chunk.content for chunk in split(text, markdown=markdown)]
