"""Whether the embedder is still the model that made the stored vectors: judged before anything is embedded, and by a
check. Searches compare with the recorded vectors only (`search/query_vectors.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from rag_assets.consistency.finding import Finding, conclude, not_applicable
from rag_assets.pipeline.model_probe import (
    PROBE_TEXTS,
    Comparison,
    Probe,
    compare,
    one_vector_message,
    other_model_message,
    probes_of,
    tells_texts_apart,
)
from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.embedders.checked import CheckedEmbedder
from resources.embedding_files import EmbeddingReader, dense_rows, multi_rows, sparse_rows
from resources.errors import ConfigError, EmbedderUnavailable, OtherModel
from resources.files import FileStore
from resources.postgres.connection import Connection, Writer
from resources.postgres.vectors.model_probes import known_texts, read_probes, record_probes
from resources.vector_stores import ModelTarget

KNOWN_VECTORS_FACT = "The embedder returns the known vectors of known texts: it is the model that made the stored ones."
#: Stored texts that are embedded again for a model without recorded vectors: from before these were recorded.
STORED_TEXTS = 3


def require_same_model(writer: Writer, files: FileStore, model: ModelTarget) -> str | None:
    """Raise OtherModel if the embedder does not return the known vectors. Records vectors of a model without any.

    Raises ConfigError if the embedder returns one vector for all texts.
    Returns a harmless text that the embedder has just embedded; None if it embeds none of them.
    """
    recorded = read_probes(writer.connection, model.fingerprint)
    known = recorded or _stored_vectors(writer.connection, files, model)
    present = _present(model, [*known, *PROBE_TEXTS])
    _require_different_vectors(present, model)
    _require_same(compare(known, present, model.kinds), model)
    probes = [present[text] for text in (recorded or PROBE_TEXTS) if text in present]
    if any(not _covers(recorded.get(probe.text), probe, model.kinds) for probe in probes):
        # Vectors without any embedding are those of an index that is gone.
        with writer.transaction() as connection:
            record_probes(connection, model.fingerprint, probes, replace=not recorded)
    return next((text for text in PROBE_TEXTS if text in present), None)


def _require_different_vectors(present: Mapping[str, Probe], model: ModelTarget) -> None:
    if not tells_texts_apart(present.values()):
        raise ConfigError(one_vector_message(model.embedder.identity))


def _require_same(comparison: Comparison, model: ModelTarget) -> None:
    if not comparison.is_same_model:
        raise OtherModel(
            f"Nothing was embedded. {other_model_message(comparison, model.embedder.identity)}"
        )


def accept_model(connection: Connection, model: ModelTarget) -> int:
    """Record the embedder's present vectors instead of the known ones. Returns the number of texts."""
    present = _present(model, PROBE_TEXTS)
    _require_different_vectors(present, model)
    with connection.transaction():
        record_probes(connection, model.fingerprint, present.values(), replace=True)
    return len(present)


@dataclass(frozen=True)
class Judgement:
    """A comparison of the embedder with known vectors. `unavailable`: why the embedder could not be asked."""

    model: ModelTarget
    comparison: Comparison = field(default_factory=Comparison)
    unavailable: str = ""


def judge_model(connection: Connection, files: FileStore, model: ModelTarget) -> Judgement:
    """Compare the embedder with the recorded vectors or, without any, with stored ones. Changes nothing."""
    try:
        known = read_probes(connection, model.fingerprint)
        known = known or _stored_vectors(connection, files, model)
        return Judgement(model, compare(known, _present(model, known), model.kinds))
    except EmbedderUnavailable as error:
        return Judgement(model, unavailable=str(error))


def model_finding(judgement: Judgement, source: str) -> Finding:
    """Return the finding for one source. An embedder that does not answer proves nothing: undetermined."""
    model, comparison = judgement.model, judgement.comparison
    if judgement.unavailable:
        return conclude(
            "undetermined",
            f"The embedder does not answer: {judgement.unavailable}",
            source=source,
            remedy="check",
        )
    if comparison.cosine is None:
        return not_applicable(f"no vectors are known of model {model.fingerprint}.")
    metadata = {"texts": comparison.texts, "least_cosine": round(comparison.cosine, 4)}
    if comparison.is_same_model:
        return conclude(
            "passed",
            f"The embedder returns the known vectors of {comparison.texts} texts (least cosine "
            f"{comparison.cosine:.4f}).",
            source=source,
            metadata=metadata,
        )
    return conclude(
        "failed",
        other_model_message(comparison, model.embedder.identity),
        source=source,
        remedy="person",
        key=[model.fingerprint],
        metadata=metadata,
    )


def _present(model: ModelTarget, texts: Iterable[str]) -> dict[str, Probe]:
    """Return text -> its present vectors, without texts that the embedder cannot embed."""
    texts = list(dict.fromkeys(texts))
    return probes_of(texts, CheckedEmbedder(model.embedder).embed(texts, model.kinds))


def _covers(recorded: Probe | None, probe: Probe, kinds: tuple[Kind, ...]) -> bool:
    return recorded is not None and all(recorded.has(kind) for kind in kinds if probe.has(kind))


def _stored_vectors(
    connection: Connection, files: FileStore, model: ModelTarget
) -> Mapping[str, Probe]:
    """Return text -> vectors of some chunks, from Parquet; empty if there is no intact file."""
    texts = known_texts(connection, model.fingerprint, model.kinds, STORED_TEXTS)
    if not texts:
        return {}
    path, rows = texts[0].path, [text.row_index for text in texts]
    try:
        if files.checksum(path).checksum != texts[0].checksum:
            return {}
        tables = {kind: EmbeddingReader(files, kind).read(path, rows) for kind in model.kinds}
    except (OSError, pa.ArrowException) as error:
        _log.warning("%s cannot be read, so the model is not compared with it: %s", path, error)
        return {}
    vectors = Embeddings(
        dense_rows(tables["dense"]) if "dense" in tables else None,
        sparse_rows(tables["sparse"]) if "sparse" in tables else None,
        multi_rows(tables["multi"]) if "multi" in tables else None,
    )
    return probes_of([text.content for text in texts], vectors)


_log = logging.getLogger(__name__)
