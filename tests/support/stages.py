"""A sync without Dagster: the stages of one source, one after another, each with its own writer.

A third of the time of the job, for tests that need only its result, and for processes that are to be killed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from rag_assets.ingestion.embed import embed_texts
from rag_assets.ingestion.fetch import SyncOptions, sync_source_documents
from rag_assets.ingestion.index import sync_vectors
from rag_assets.ingestion.parse import sync_documents
from rag_assets.ingestion.split import sync_chunks
from rag_assets.ingestion.stage import Outcome, Stage
from rag_assets.pipeline.vectors import Kind
from resources.postgres.registry.sources import get_source
from resources.vector_stores import VectorStores

LOG = logging.getLogger("stages")


def run_stages(
    resources: Mapping[str, Any], stores: VectorStores, source: str
) -> dict[str, dict[str, int]]:
    """Run all stages of a source. Returns asset -> plan. Raises the error of an outcome at the end, as a run does."""
    postgres, model = resources["postgres"].open(), stores.model

    def vectors(kind: Kind) -> Callable[[Stage], Outcome]:
        return lambda stage: sync_vectors(stage, kind, stores)

    stages: dict[str, Callable[[Stage], Outcome]] = {
        "source_documents": lambda stage: sync_source_documents(
            stage,
            stores.files,
            SyncOptions(resources["guard"].limits(), resources["guard"].limits()),
        ),
        "documents": lambda stage: sync_documents(
            stage, stores.files, resources["parsing"].limits()
        ),
        "document_chunks": lambda stage: sync_chunks(stage, resources["chunking"].config()),
        "chunk_embeddings": lambda stage: embed_texts(
            stage, stores.files, model.embedder, model.target(stage.scope), "float32"
        ),
        "dense_vectors": vectors("dense"),
        "sparse_vectors": vectors("sparse"),
        "multi_vectors": vectors("multi"),
    }
    plans, error = {}, None
    for asset, work in stages.items():
        with postgres.writer(source) as writer:
            stage = Stage(asset, get_source(writer.connection, source), writer, LOG)
            outcome = work(stage)
            plans[asset], error = outcome.plan.as_dict(), error or outcome.error
    if error:
        raise error
    return plans
