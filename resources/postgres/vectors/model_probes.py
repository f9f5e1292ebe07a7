"""Table `model_probes`: vectors of harmless texts, by which a model is recognised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rag_assets.pipeline.model_probe import Probe
from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all


class KnownText(NamedTuple):
    """A text of a chunk, and the row of the file that is its embedding, with the checksum of the file."""

    content: str
    path: str
    checksum: str
    row_index: int


def read_probes(connection: Connection, model: str) -> dict[str, Probe]:
    """Return text -> its recorded vectors from a model; empty if it has none yet, or no embedding to compare with."""
    probes = fetch_all(
        connection,
        _probe,
        """SELECT text, dense, sparse_indices, sparse_values, multi FROM model_probes
           WHERE model_fingerprint = %(model)s
             AND EXISTS (SELECT FROM embeddings e WHERE e.model_fingerprint = %(model)s) ORDER BY text""",
        {"model": model},
    )
    return {probe.text: probe for probe in probes}


def record_probes(
    connection: Connection, model: str, probes: Iterable[Probe], *, replace: bool = False
) -> None:
    """Record the vectors of texts. Recorded kinds stay as they are, and missing ones are added, unless `replace`."""
    if replace:
        connection.execute("DELETE FROM model_probes WHERE model_fingerprint = %s", [model])
    for probe in probes:
        connection.execute(
            """INSERT INTO model_probes AS known
                 (model_fingerprint, text, dense, sparse_indices, sparse_values, multi)
               VALUES (%s, %s, %s, %s, %s, %s)
               ON CONFLICT (model_fingerprint, text) DO UPDATE SET
                 dense = coalesce(known.dense, excluded.dense),
                 sparse_indices = coalesce(known.sparse_indices, excluded.sparse_indices),
                 sparse_values = coalesce(known.sparse_values, excluded.sparse_values),
                 multi = coalesce(known.multi, excluded.multi)""",
            [
                model,
                probe.text,
                *(
                    None if values is None else np.ascontiguousarray(values).tobytes()
                    for values in (
                        probe.dense,
                        probe.sparse_indices,
                        probe.sparse_values,
                        probe.multi,
                    )
                ),
            ],
        )


def known_texts(
    connection: Connection, model: str, kinds: Iterable[Kind], limit: int
) -> list[KnownText]:
    """Return some chunks' texts that have an embedding of these kinds under a model, in the newest file."""
    return fetch_all(
        connection,
        KnownText,
        """SELECT DISTINCT ON (e.row_index) c.content, f.path, f.checksum, e.row_index
           FROM (SELECT id, path, checksum FROM embedding_files
                 WHERE model_fingerprint = %(model)s AND kinds @> %(kinds)s
                 ORDER BY created_at DESC LIMIT 1) AS f
           JOIN embeddings e ON e.file_id = f.id JOIN document_chunks c ON c.text_hash = e.text_hash
           WHERE e.model_fingerprint = %(model)s ORDER BY e.row_index LIMIT %(limit)s""",
        {"model": model, "kinds": list(kinds), "limit": limit},
    )


def _probe(
    *,
    text: str,
    dense: bytes | None,
    sparse_indices: bytes | None,
    sparse_values: bytes | None,
    multi: bytes | None,
) -> Probe:
    return Probe(
        text,
        None if dense is None else np.frombuffer(dense, "<f4"),
        None if sparse_indices is None else np.frombuffer(sparse_indices, "<u4"),
        None if sparse_values is None else np.frombuffer(sparse_values, "<f4"),
        None if multi is None else np.frombuffer(multi, "<f4"),
    )
