"""Searches in a thread while a test changes the stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rag_assets.search.request import AccessScope, SearchRequest
from tests.support.world import World


@contextmanager
def searching(world: World, query: str = "the building of town 1") -> Iterator[list[object]]:
    """Search until the block ends. The list collects every error, and every answer that has not exactly five hits."""
    problems: list[object] = []
    done, answered = threading.Event(), 0
    searcher = world.searcher()

    def search() -> None:
        nonlocal answered
        while not done.is_set():
            try:
                hits = searcher.search(SearchRequest(query, k=5), AccessScope.owner())
                if len(hits) != 5:
                    problems.append(f"{len(hits)} hits")
            except Exception as error:
                problems.append(error)
            answered += 1
            # Searches without a pause would take the processor from the changes.
            done.wait(0.02)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield problems
    finally:
        done.set()
        thread.join()
        searcher.close()
    assert answered > 5
