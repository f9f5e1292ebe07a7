"""The request of a search: its parameters, and the one place where they are validated.

A program imports what it needs to search from here. No store and no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal, get_args

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.plain_text import nfc, without_invisible
from rag_assets.pipeline.vectors import Kind
from resources.errors import ConfigError

__all__ = ["MODES", "AccessScope", "Filters", "Mode", "SearchRequest"]

Mode = Literal["dense", "sparse", "hybrid", "multi"]
MODES: tuple[Mode, ...] = get_args(Mode)

#: A page this deep costs 4 times as many candidates, and a first stage returns 10,000 (see `searcher.MAX_CANDIDATES`).
MAX_OFFSET = 2500
MAX_NEIGHBOURS = 20


@dataclass(frozen=True)
class SearchRequest:
    """The k best chunks after the first `offset`. Equal texts are one hit that names every document with that text.

    `mode`: None is hybrid if dense and sparse vectors are kept, else the first kind that is. `radius`: only rows whose
    inner product with the query is above it; in a hybrid that of the dense vectors. `min_score`: only hits of at least
    this relevance, 0 to 1; None is the searcher's least relevance, 0 shows all. `rerank`: order the first candidates by
    the reranker of the settings; without one by MaxSim (multi-vectors must be kept). `by_document`: only the best chunk
    of each document. `neighbours`: the number of chunks before and after each hit, and the opening of its section, for
    a context window.
    """

    text: str
    k: int = 10
    offset: int = 0
    mode: Mode | None = None
    filters: Filters = field(default_factory=Filters)
    radius: float | None = None
    min_score: float | None = None
    rerank: bool = False
    by_document: bool = False
    neighbours: int = 0

    def __post_init__(self) -> None:
        # As the ingestion stores texts; callers without a type checker may pass any value.
        text: object = self.text
        if isinstance(text, str):
            object.__setattr__(self, "text", nfc(without_invisible(text)))

    def mode_among(self, kinds: Sequence[Kind]) -> Mode:
        """Return the mode to use if these kinds of vectors are kept."""
        return self.mode or ("hybrid" if {"dense", "sparse"} <= set(kinds) else kinds[0])

    def validate(
        self,
        kinds: Sequence[Kind],
        limit: int,
        problems: Sequence[str] = (),
        *,
        has_reranker: bool = False,
    ) -> None:
        """Raise ConfigError that lists everything wrong, after the `problems` that the caller found.

        `kinds`: the kinds of vectors that are kept. `limit`: the maximum of k. `has_reranker`: reranking needs no
        multi-vectors.
        """
        mode = self.mode_among(kinds)
        problems = [*problems, *self._value_problems(limit)]
        if mode not in MODES:
            problems.append(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
        if self.radius is not None and mode == "multi":
            problems.append("radius: expected with mode dense, sparse or hybrid, found with multi")
        if self.min_score is not None and mode == "multi":
            problems.append(
                "min_score: expected with mode dense, sparse or hybrid, found with multi"
            )
        if self.rerank and not has_reranker and mode != "multi" and "multi" not in kinds:
            problems.append(
                "rerank: no reranker is set, and multi vectors are not kept; set RAG_RERANKER=cross-encoder (a model) "
                f"or RAG_RERANKER=endpoint (a server), or RAG_VECTORS={','.join([*kinds, 'multi'])} and run rag ingest"
            )
        for kind in needed_kinds(mode):
            if kind not in kinds and mode in MODES:
                needs = " (needs Milvus 2.4 or newer)" if kind == "sparse" else ""
                problems.append(
                    f"mode {mode}: {kind} vectors are not kept; "
                    f"set RAG_VECTORS={','.join([*kinds, kind])}{needs} and run rag ingest"
                )
        if problems:
            raise ConfigError("This search cannot be answered:\n  " + "\n  ".join(problems))

    def _value_problems(self, limit: int) -> list[str]:
        """Callers without a type checker may pass any value."""
        problems: list[str] = []
        values: dict[str, object] = {"text": self.text, "filters": self.filters}
        if not isinstance(values["text"], str):
            problems.append(f"text: expected text, found {self.text!r}")
        elif not self.text.strip():
            problems.append("text: expected something to search for, found blanks")
        numbers: dict[str, tuple[object, int, int]] = {
            "k": (self.k, 1, limit),
            "offset": (self.offset, 0, MAX_OFFSET),
            "neighbours": (self.neighbours, 0, MAX_NEIGHBOURS),
        }
        for name, (number, least, most) in numbers.items():
            if not isinstance(number, Integral):
                problems.append(f"{name}: expected an integer, found {number!r}")
            elif not least <= int(number) <= most:
                problems.append(f"{name}: expected {least} to {most}, found {number}")
        radius: object = self.radius
        if radius is not None and not isinstance(radius, Real):
            problems.append(f"radius: expected a number, found {radius!r}")
        elif isinstance(radius, Real) and not math.isfinite(float(radius)):
            problems.append(f"radius: expected a finite number, found {radius}")
        min_score: object = self.min_score
        if min_score is not None and not isinstance(min_score, Real):
            problems.append(f"min_score: expected a number, found {min_score!r}")
        elif isinstance(min_score, Real) and not 0 <= float(min_score) <= 1:
            problems.append(
                f"min_score: expected a relevance from 0 to 1, found {min_score}; "
                "radius (--radius) cuts off by the dense score"
            )
        if not isinstance(values["filters"], Filters):
            problems.append(f"filters: expected Filters, found {self.filters!r}")
        else:
            problems += self.filters.problems()
        return problems


def needed_kinds(mode: Mode, rerank: bool = False) -> tuple[Kind, ...]:
    """Return the kinds of vectors that a search needs: those of its first stages first."""
    first: tuple[Kind, ...] = ("dense", "sparse") if mode == "hybrid" else (mode,)
    return (*first, "multi") if rerank and mode != "multi" else first
