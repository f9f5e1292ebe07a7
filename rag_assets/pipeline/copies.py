"""Copies: equal texts that a stage works on once, such as the pages that a new version of a manual left unchanged."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar

#: Maximum characters of the texts whose results are kept, the latest ones.
KEPT = 32_000_000
#: Maximum size of a document and of a chunk that is kept.
DOCUMENT_SIZE, CHUNK_SIZE = 16_000, 2_000

R = TypeVar("R")


def once_per_copy(work: Callable[..., R], size: int = DOCUMENT_SIZE) -> Callable[..., R]:
    """Return a function that does the work once for equal arguments, if the first one is not larger than `size`.

    Its callers share a result, so they must not change it. Thread-safe.
    """
    remembered = lru_cache(KEPT // size)(work)

    def call(text: str | bytes, *others: Hashable) -> Any:
        return (remembered if len(text) <= size else work)(text, *others)

    return call
