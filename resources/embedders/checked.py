"""Any embedder, with its answer checked row by row: a text with a wrong answer fails alone, and the others are kept.

Users' own embedders, the models and servers behind them may return a wrong row, too few rows, or raise for one text. No
store here; the stage that embeds texts records the failures.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Embedder, Embeddings, Kind, Multi, Sparse
from resources.embedders.batches import divided, join, take
from resources.errors import ConfigError, RagError


@dataclass
class CheckedEmbedder:
    """Embeds texts with `model`, and checks its answers.

    `harmless`: a text that the model has embedded. The model must embed it again before a wrong answer counts as the
    text's fault, or several failures without any success do: else the model is at fault. None: no such text is known,
    and the model is at fault if every text of a call is answered wrongly.
    """

    model: Embedder
    harmless: str | None = None

    def embed(self, texts: Sequence[str], kinds: Sequence[Kind]) -> Embeddings:
        """Return the vectors of the texts, all of the right form. `failures`: the model's own, and wrong answers.

        Raises the model's RagErrors. If the model is at fault, raises its exception, or ConfigError for a wrong answer.
        """
        call = _Call(self.model, texts, kinds, self.harmless)
        call.embed(range(len(texts)))
        if len(call.failures) == len(texts):
            if self.harmless is None and call.fault is not None:
                raise call.fault
            if len(texts) > 1:
                call.require_working_model()
        if len(call.parts) == 1 and len(call.parts[0][0]) == len(texts):
            return call.parts[0][1]
        dimensions = (self.model.dimension, self.model.token_dimension)
        return join(len(texts), call.parts, kinds, dimensions, call.failures)


@dataclass
class _Call:
    """One call's texts, and the vectors so far: (rows, their vectors) in `parts`; `failures` by row.

    `fault`: the first wrong answer or exception of the model. `works`: it embedded the harmless text since the start.
    """

    model: Embedder
    texts: Sequence[str]
    kinds: Sequence[Kind]
    harmless: str | None
    parts: list[tuple[Sequence[int], Embeddings]] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    fault: Exception | None = None
    works: bool = False

    def embed(self, rows: Sequence[int]) -> None:
        """Add the vectors of some texts: in halves if an answer cannot be assigned, and again alone for a wrong row."""
        try:
            answer = self._ask([self.texts[row] for row in rows])
        except RagError as error:
            if not isinstance(error, _WrongAnswer):
                raise
            self._divide(rows, error, str(error))
            return
        # A user's embedder may raise anything for a text.
        except Exception as error:
            self._divide(rows, error, f"{type(error).__name__}: {error}")
            return
        wrong = wrong_rows(answer, self.kinds, getattr(self.model, "vocabulary", None))
        self.failures |= {rows[at]: reason for at, reason in answer.failures.items()}
        if not wrong:
            self.parts.append((rows, answer))
            return
        self._blame(_WrongAnswer(f"The embedder returned a wrong {next(iter(wrong.values()))}"))
        right = [at for at in range(len(rows)) if at not in wrong]
        self.parts.append(([rows[at] for at in right], take(answer, right)))
        for at, reason in wrong.items():
            if len(rows) == 1:
                self.failures[rows[at]] = reason
            else:
                self.embed([rows[at]])

    def _divide(self, rows: Sequence[int], fault: Exception, reason: str) -> None:
        self._blame(fault)
        if len(rows) == 1:
            self.failures[rows[0]] = reason
        else:
            for part in divided(rows):
                self.embed(part)

    def _blame(self, fault: Exception) -> None:
        self.fault = self.fault or fault
        self.require_working_model()

    def require_working_model(self) -> None:
        """Raise an error unless the model embeds the harmless text, once per call."""
        if self.works or self.harmless is None:
            return
        failures = CheckedEmbedder(self.model).embed([self.harmless], self.kinds).failures
        if failures:
            raise ConfigError(
                f"The embedder fails even for the harmless text {self.harmless!r}: {failures[0]}"
            )
        self.works = True

    def _ask(self, texts: Sequence[str]) -> Embeddings:
        """Return the model's answer. Raises _WrongAnswer if its rows cannot be assigned to the texts."""
        answer = self.model.embed(texts, self.kinds)
        if problems := wrong_shapes(answer, len(texts), self.kinds, self.model):
            raise _WrongAnswer("The embedder returned wrong shapes: " + "; ".join(problems))
        return answer


class _WrongAnswer(ConfigError):
    """An answer that cannot be used. Whether the text or the model is at fault is not known yet."""


def wrong_shapes(
    vectors: Embeddings, texts: int, kinds: Collection[Kind], model: Embedder
) -> list[str]:
    """Return why the rows of an answer cannot be assigned to its texts; empty if they can."""
    if not isinstance(vectors, Embeddings):
        return [f"expected Embeddings, found {type(vectors).__name__}"]
    expected: dict[Kind, object] = {
        "dense": (texts, model.dimension),
        "sparse": texts,
        "multi": (texts, model.token_dimension),
    }
    problems: list[str] = []
    for kind in kinds:
        value: NDArray[np.float32] | Sparse | Multi | None = getattr(vectors, kind)
        shape: object = None
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            shape = value.shape
        elif isinstance(value, Sparse) and _is_layout(value.indptr, len(value.indices)):
            shape = len(value) if len(value.values) == len(value.indices) else None
        elif isinstance(value, Multi) and _is_layout(value.offsets, len(value.vectors)):
            width = value.vectors.shape[-1] if value.vectors.size else model.token_dimension
            shape = (len(value), width) if value.vectors.ndim == 2 else None
        if shape != expected[kind]:
            problems.append(f"{kind}: expected shape {expected[kind]}, found {shape}")
    if unknown := [at for at in vectors.failures if at not in range(texts)]:
        problems.append(f"failures: expected indices below {texts}, found {unknown[:5]}")
    return problems


def _is_layout(starts: NDArray[np.int64], entries: int) -> bool:
    """Return whether offsets begin at 0, never fall, and end with the last entry."""
    starts = np.asarray(starts)
    if not len(starts) or starts[0] != 0 or starts[-1] != entries:
        return False
    return bool((np.diff(starts) >= 0).all())


def wrong_rows(
    vectors: Embeddings, kinds: Collection[Kind], vocabulary: int | None = None
) -> Mapping[int, str]:
    """Return row -> why no store would accept its vectors, without the rows in `failures`."""
    wrong: dict[int, str] = {}
    if vectors.dense is not None and "dense" in kinds:
        for row in np.flatnonzero(~_have_length(vectors.dense)).tolist():
            wrong[row] = f"dense vector: {_NO_LENGTH}"
    if vectors.sparse is not None and "sparse" in kinds:
        values, starts = vectors.sparse.values, vectors.sparse.indptr
        for row in _owners(starts, ~(np.isfinite(values) & (values > 0))):
            wrong[row] = "sparse vector: expected finite weights above 0, found others"
        if vocabulary is not None:
            for row in _owners(starts, vectors.sparse.indices >= vocabulary):
                wrong[row] = f"sparse vector: expected terms below {vocabulary}, found others"
    if vectors.multi is not None and "multi" in kinds:
        starts = vectors.multi.offsets
        for row in _owners(starts, ~_have_length(vectors.multi.vectors)):
            wrong[row] = f"token vectors: {_NO_LENGTH}"
        for row in np.flatnonzero(np.diff(starts) == 0).tolist():
            wrong[row] = "token vectors: expected at least one, found none"
    return {row: reason for row, reason in sorted(wrong.items()) if row not in vectors.failures}


_NO_LENGTH = "expected finite numbers that are not all zero, found NaN, infinity or only zeros"


def _have_length(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows can be scaled to length 1, in the float32 that the stores use."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(rows.astype(np.float32, copy=False), axis=-1)
    return np.isfinite(norms) & (norms > 0)


def _owners(starts: NDArray[np.int64], marked: NDArray[np.bool_]) -> list[int]:
    """Return the rows that own the marked entries of a flat array."""
    places = np.flatnonzero(marked)
    return np.unique(np.searchsorted(starts, places, "right") - 1).tolist()
