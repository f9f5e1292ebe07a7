"""Builds a retrieval set from a source's own chunks: one question for each of a sample, taken in order of hashes."""

from __future__ import annotations

import uuid

from rag_assets.pipeline.known_items import frequencies, known_item_query
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.evaluation.retrieval_sets import add_known_items, sample_texts
from resources.postgres.registry.sources import SourceRow, get_source

#: Texts whose words are counted to find rare words: about 5 MB.
COUNTED_TEXTS = 5000


def build_set(connection: Connection, name: str, source_name: str, queries: int) -> int:
    """Register the set. Returns its number of queries: fewer than `queries` if the source has fewer usable texts.

    Raises ConfigError if the source has no indexed text.
    """
    source = get_source(connection, source_name)
    items = questions(connection, source, queries)
    if not items:
        raise ConfigError(
            f"Source {source.name} has no indexed text to build questions from. First: rag ingest {source.name}"
        )
    add_known_items(connection, name, source, items)
    return len(items)


def questions(
    connection: Connection, source: SourceRow, queries: int
) -> list[tuple[uuid.UUID, str]]:
    """(chunk, question that the chunk answers), at most `queries` of them."""
    texts = sample_texts(connection, source.id, max(COUNTED_TEXTS, queries * 2))
    counts = frequencies(text for _, text in texts)
    candidates = ((chunk, known_item_query(text, counts, len(texts))) for chunk, text in texts)
    items = [(chunk, question) for chunk, question in candidates if question is not None]
    # Two texts may yield the same question; keep one of them.
    items = list({question: (chunk, question) for chunk, question in items[: queries * 2]}.values())
    return items[:queries]
