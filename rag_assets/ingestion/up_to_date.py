"""Sources for which a sync has nothing to do, found without its run: each stage is asked what it asks itself first.

Any doubt means that the source is not returned: its sync then decides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rag_assets.ingestion.embed import find_idle_embeddings
from rag_assets.ingestion.fetch import unchanged_sources
from rag_assets.ingestion.index import find_idle_vectors
from rag_assets.ingestion.parse import find_idle_documents
from rag_assets.ingestion.split import find_idle_chunks
from rag_assets.ingestion.stage import Outcome
from rag_assets.pipeline.chunking import ChunkingConfig
from rag_assets.pipeline.limits import ParserLimits
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.postgres.connection import Connection
from resources.postgres.consistency.table_checks import chunks_without_document, wrong_positions
from resources.postgres.registry.sources import SourceRow
from resources.postgres.registry.syncs import complete_sources, mark_unchanged
from resources.vector_stores import VectorStores

#: The checks that each sync runs.
CHECKS = ("chunks_have_documents", "chunk_positions_are_contiguous")
_LISTING = "source_documents"

#: Returns the outcomes of the sources (name -> source) for which a stage has nothing to do.
_Question = Callable[[Mapping[str, SourceRow]], Mapping[str, Outcome]]


@dataclass
class UpToDate:
    """What each stage would report of a source: asset -> its outcome, and the seconds that the answer took."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def find_up_to_date(
    connection: Connection,
    sources: Mapping[str, SourceRow],
    limits: ParserLimits,
    chunking: ChunkingConfig,
    stores: VectorStores,
    log: logging.Logger,
) -> dict[str, UpToDate]:
    """Return the sources (name -> source) that a sync would leave as they are, and record that they are up to date.

    The outcomes are in the order of the stages.
    """

    def vectors(kind: Kind) -> _Question:
        return lambda rows: find_idle_vectors(connection, rows, kind, stores)

    questions: dict[str, _Question] = {
        _LISTING: lambda rows: unchanged_sources(connection, rows),
        "documents": lambda rows: find_idle_documents(connection, rows, limits),
        "document_chunks": lambda rows: _without_exceptions(
            connection, rows, find_idle_chunks(connection, rows, chunking)
        ),
        "chunk_embeddings": lambda rows: find_idle_embeddings(
            connection, rows, stores.files, stores.model, log
        ),
        **{f"{kind}_vectors": vectors(kind) for kind in KINDS},
    }
    complete = complete_sources(connection, [source.id for source in sources.values()], CHECKS)
    rows = {name: source for name, source in sources.items() if source.id in complete}
    found = {name: UpToDate() for name in rows}
    # The listing comes last: it may take seconds, and is in vain if another stage has work.
    for asset in [*(asset for asset in questions if asset != _LISTING), _LISTING]:
        if not rows:
            return {}
        started = time.monotonic()
        outcomes = questions[asset](rows)
        rows = {name: source for name, source in rows.items() if name in outcomes}
        seconds = time.monotonic() - started
        for name in rows:
            found[name].outcomes[asset] = outcomes[name]
            found[name].seconds[asset] = seconds / len(rows)
    marked = mark_unchanged(connection, [source.id for source in rows.values()], CHECKS)
    return {
        name: UpToDate(
            {asset: found[name].outcomes[asset] for asset in questions}, found[name].seconds
        )
        for name, source in rows.items()
        if source.id in marked
    }


def _without_exceptions(
    connection: Connection, sources: Mapping[str, SourceRow], outcomes: Mapping[str, Outcome]
) -> dict[str, Outcome]:
    """Return the outcomes of sources whose chunks pass the checks."""
    return {
        name: outcome
        for name, outcome in outcomes.items()
        if not chunks_without_document(connection, sources[name].id)
        and not wrong_positions(connection, sources[name].id)
    }
