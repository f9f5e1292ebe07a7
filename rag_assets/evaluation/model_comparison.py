"""One model measured with a retrieval set, whether its collections serve or only lie beside those that do.

Nothing is recorded: the evaluations of a set are those of the serving model.
"""

from __future__ import annotations

from collections.abc import Mapping

from rag_assets.evaluation.evaluator import Evaluator, measuring_searcher
from rag_assets.pipeline.vectors import Kind
from rag_assets.search.fusion import Fusion
from resources.errors import ConfigError
from resources.postgres.connection import Connection, Postgres
from resources.postgres.evaluation.evaluations import ModeResult
from resources.postgres.evaluation.retrieval_sets import RetrievalSet
from resources.postgres.vectors.collections import collections
from resources.vector_stores import ModelTarget, VectorStores


def written_collections(connection: Connection, model: ModelTarget) -> Mapping[Kind, str]:
    """Return kind -> the collection that contains this model's vectors, without kinds of which there is none."""
    return {
        item.kind: item.name
        for item in collections(connection)
        if item.model == model.fingerprint and model.keeps(item.kind)
    }


def measure_model(
    postgres: Postgres, stores: VectorStores, retrieval_set: RetrievalSet, fusion: Fusion
) -> dict[str, ModeResult]:
    """Return mode -> the result of the set's queries in this model's collections.

    Raises ConfigError if one of the collections does not exist, or if the source has none of the answers.
    """
    with postgres.connect(autocommit=True) as connection:
        names = written_collections(connection, stores.model)
        if missing := [kind for kind in stores.kinds if kind not in names]:
            raise ConfigError(
                f"Model {stores.model.fingerprint} has no {' and no '.join(missing)} vectors of source "
                f"{retrieval_set.source} yet. Make them: rag ingest --source {retrieval_set.source}"
            )
        with measuring_searcher(postgres, stores, collections=names, fusion=fusion) as searcher:
            results, _ = Evaluator(connection, searcher, stores.files).evaluate(retrieval_set)
    if not results:
        raise ConfigError(
            f"Set {retrieval_set.name}: source {retrieval_set.source} has none of the answers that its queries expect."
        )
    return {result.mode: result for result in results}
