"""Builds a retrieval set from a source's own chunks: for some, by the order of their hashes, a question each."""

from __future__ import annotations

import uuid

from rag_assets.pipeline.known_items import frequencies, known_item_query
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.evaluation.retrieval_sets import add_known_items, sample_texts
from resources.postgres.registry.sources import SourceRow, get_source

#: Texts that say how rare a word is: about 5 MB of them.
COUNTED_TEXTS = 5000


def build_set(connection: Connection, name: str, source_name: str, queries: int) -> int:
    """Registers the set. Returns its queries: fewer than asked for where the source has fewer texts to ask for."""
    source = get_source(connection, source_name)
    items = questions(connection, source, queries)
    if not items:
        raise ConfigError(
            f"Source {source.name} has no indexed text to ask for. First: rag ingest --name {source.name}"
        )
    add_known_items(connection, name, source, items)
    return len(items)


def questions(
    connection: Connection, source: SourceRow, queries: int
) -> list[tuple[uuid.UUID, str]]:
    """(chunk, question to which it is the answer): as many as asked for, or as the source has texts to ask for."""
    texts = sample_texts(connection, source.id, max(COUNTED_TEXTS, queries * 2))
    known = frequencies(text for _, text in texts)
    asked = ((chunk, known_item_query(text, known, len(texts))) for chunk, text in texts)
    items = [(chunk, question) for chunk, question in asked if question is not None]
    # Of one question two texts may be the answer.
    items = list({question: (chunk, question) for chunk, question in items[: queries * 2]}.values())
    return items[:queries]
