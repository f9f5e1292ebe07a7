"""Checks of the vectors of one source in Milvus: five facts for each kind."""

from collections.abc import Callable

import dagster as dg

from rag_assets.checks.kinds import check_of_kind
from rag_assets.consistency.check_target import CheckTarget
from rag_assets.consistency.collection_findings import (
    alias_points_to_current_model,
    index_is_as_declared,
)
from rag_assets.consistency.finding import Finding
from rag_assets.consistency.vector_findings import (
    vectors_are_found_by_search,
    vectors_are_sound,
    vectors_match_postgres,
)
from rag_assets.pipeline.vectors import KINDS

_CHECKS: tuple[tuple[str, str, Callable[[CheckTarget], Finding]], ...] = (
    (
        "{kind}_vectors_match_postgres",
        "Milvus contains exactly the rows that PostgreSQL expects, with the right row_fingerprint, each once.",
        vectors_match_postgres,
    ),
    (
        "{kind}_vectors_are_sound",
        "Stored vectors are finite, of the declared dimension and norm, and those of their texts in Parquet.",
        vectors_are_sound,
    ),
    (
        "{kind}_vectors_are_found_by_search",
        "A search for the vector of a row finds this row, or an equal one, first.",
        vectors_are_found_by_search,
    ),
    (
        "{kind}_index_is_as_declared",
        "The collection's fields, dimension and index are the declared ones; it is finished and loaded.",
        index_is_as_declared,
    ),
    (
        "{kind}_alias_points_to_current_model",
        "The alias that readers use points at the collection of the current model, as PostgreSQL records.",
        alias_points_to_current_model,
    ),
)

VECTOR_CHECKS: list[dg.AssetChecksDefinition] = [
    check_of_kind(kind, name, fact, judge, also_dropped_kinds=judge is vectors_match_postgres)
    for kind in KINDS
    for name, fact, judge in _CHECKS
]
