"""Recognises a model by its vectors of known texts: another model behind the same name returns other ones.

The fingerprint of a model is made of what the configuration says. The weights behind a server's model name, or behind a
user's own embedder, can change without it. Pure logic: no store here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Embeddings, Kind

#: Harmless texts in several scripts: an embedder may know one only.
PROBE_TEXTS = (
    "The harbour master measures the pressure of the pump at 44 bar before every departure.",
    "Der Hafenmeister prüft vor jeder Abfahrt den Druck der Pumpe. Начальник порта проверяет насос.",
    "港長は出港の前に毎回ポンプの圧力を測ります。港务长在每次出航前检查水泵。",
)
#: Minimum cosine of two vectors of one text from one model. fp16, bf16, another batch or device stay above 0.999, 4-bit
#: weights above 0.98; other weights of the same architecture have another space (about 0).
MIN_COSINE = 0.98
#: Cosine of vectors that are one and the same. Unrelated texts of no model come near it.
EQUAL_COSINE = 1 - 1e-6


@dataclass(frozen=True, eq=False)
class Probe:
    """A text with its vectors. A kind that was not asked for is None. `multi`: the mean of the token vectors."""

    text: str
    dense: NDArray[np.float32] | None = None
    sparse_indices: NDArray[np.uint32] | None = None
    sparse_values: NDArray[np.float32] | None = None
    multi: NDArray[np.float32] | None = None

    def has(self, kind: Kind) -> bool:
        vectors = {"dense": self.dense, "sparse": self.sparse_values, "multi": self.multi}
        return vectors[kind] is not None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The least cosine between known and present vectors, of `texts` compared texts. None: nothing to compare."""

    texts: int = 0
    cosine: float | None = None
    kind: Kind | None = None

    @property
    def is_same_model(self) -> bool:
        return self.cosine is None or self.cosine >= MIN_COSINE

    def describe(self) -> str:
        return (
            f"the {self.kind} vector of a known text has a cosine of {self.cosine:.3f} with the recorded one, expected "
            f"at least {MIN_COSINE}"
        )


def probes_of(texts: Sequence[str], vectors: Embeddings) -> dict[str, Probe]:
    """Return text -> its vectors, without the texts that could not be embedded."""
    probes: dict[str, Probe] = {}
    for row, text in enumerate(texts):
        if row in vectors.failures:
            continue
        dense = indices = values = multi = None
        if vectors.dense is not None:
            dense = np.asarray(vectors.dense[row], np.float32)
        if vectors.sparse is not None:
            part = slice(*vectors.sparse.indptr[row : row + 2])
            indices = np.asarray(vectors.sparse.indices[part], np.uint32)
            values = np.asarray(vectors.sparse.values[part], np.float32)
        if vectors.multi is not None:
            part = slice(*vectors.multi.offsets[row : row + 2])
            tokens = np.asarray(vectors.multi.vectors[part], np.float32)
            multi = tokens.mean(axis=0) if len(tokens) else None
        probes[text] = Probe(text, dense, indices, values, multi)
    return probes


def compare(
    known: Mapping[str, Probe], present: Mapping[str, Probe], kinds: Collection[Kind]
) -> Comparison:
    """Compare the texts and kinds that both have."""
    cosines: list[tuple[float, Kind]] = []
    texts: set[str] = set()
    for text in known.keys() & present.keys():
        for kind in kinds:
            if known[text].has(kind) and present[text].has(kind):
                texts.add(text)
                cosines.append((_cosine(known[text], present[text], kind), kind))
    if not cosines:
        return Comparison()
    least, kind = min(cosines)
    return Comparison(len(texts), least, kind)


def tells_texts_apart(probes: Collection[Probe]) -> bool:
    """Return whether the vectors of different texts differ; those of weights that were never loaded do not.

    Sparse vectors are not compared: those of texts without a known word are all empty.
    """
    kinds: tuple[Kind, ...] = ("dense", "multi")
    return not any(
        len(same) > 1 and all(_cosine(same[0], probe, kind) > EQUAL_COSINE for probe in same[1:])
        for kind in kinds
        if (same := [probe for probe in probes if probe.has(kind)])
    )


def _cosine(known: Probe, present: Probe, kind: Kind) -> float:
    first, second = _vector(known, kind), _vector(present, kind)
    product = sum(value * second.get(place, 0.0) for place, value in first.items())
    norms = np.sqrt(sum(value**2 for value in first.values()) * sum(v**2 for v in second.values()))
    if not norms:
        # Two empty sparse vectors are equal.
        return 1.0 if not any(first.values()) and not any(second.values()) else 0.0
    cosine = float(product / norms)
    return cosine if np.isfinite(cosine) else 0.0


def _vector(probe: Probe, kind: Kind) -> Mapping[int, float]:
    if kind == "sparse":
        assert probe.sparse_indices is not None
        assert probe.sparse_values is not None
        return dict(zip(probe.sparse_indices.tolist(), probe.sparse_values.tolist()))
    values = probe.dense if kind == "dense" else probe.multi
    assert values is not None
    return dict(enumerate(values.tolist()))


#: How the vectors of another model get a space of their own, by the backend in the model's identity.
_REVISIONS = {
    "openai": "set RAG_OPENAI_REVISION to another value, such as today's date",
    "e5": "set RAG_E5_MAX_LENGTH to another value, such as 1023",
    "bge-m3": "set RAG_BGE_M3_REVISION to its revision",
    "sentence-transformers": "set RAG_ST_REVISION to its revision",
}


def one_vector_message(identity: Mapping[str, str]) -> str:
    name = identity.get("model") or identity.get("backend", "")
    return (
        f"The embedder {name!r} returns one and the same vector for different texts, by which no search could find "
        "anything. Nothing was embedded. Look into its server or class: its weights may be missing or damaged."
    )


def other_model_message(comparison: Comparison, identity: Mapping[str, str]) -> str:
    """Return the sentences about another model behind the same name, with the ways out."""
    new_space = _REVISIONS.get(
        identity.get("backend", ""), "change what `identity` of RAG_EMBEDDER's class returns"
    )
    name = identity.get("model") or identity.get("backend", "")
    return (
        f"Another model answers as {name!r} than the one that made the stored vectors: {comparison.describe()}. "
        f"Bring the former model back; or, to embed everything with the present one, {new_space}, and run rag ingest; "
        "or, if its vectors may stand beside the stored ones, run: rag ingest --accept-model"
    )
