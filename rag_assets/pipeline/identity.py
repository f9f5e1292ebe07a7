"""Ids and fingerprints: what makes a document, a chunk, a text, a model and a row the same.

Every id is derived from what it names, so that any stage can be run again without making a second one. Hash inputs
are length-delimited: ("ab", "c") and ("a", "bc") differ. The row fingerprint is computed where the rows are, in SQL
(`rag_row_fingerprint`, in the migrations); nothing here knows of a database.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping

from rag_assets.pipeline.vectors import Kind

#: Hexadecimal digits of a fingerprint: 128 bits, beyond accidental collision.
FINGERPRINT_DIGITS = 32
#: Hexadecimal digits of a model fingerprint, which stands in the names of collections.
MODEL_FINGERPRINT_DIGITS = 12


def fingerprint(*parts: str, digits: int = FINGERPRINT_DIGITS) -> str:
    """SHA-256 of the parts, each preceded by its length in bytes; the first `digits` hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:digits]


def content_hash(data: bytes) -> str:
    """SHA-256 of raw bytes, 64 hexadecimal digits: the address in the raw store."""
    return hashlib.sha256(data).hexdigest()


def text_hash(text: str) -> str:
    """Names the exact text given to the model. With a model fingerprint it is the embed key."""
    return fingerprint(text)


def model_fingerprint(identity: Mapping[str, str]) -> str:
    """Names a model by everything that changes its vectors; stands in physical collection names."""
    parts = [part for key in sorted(identity) for part in (key, identity[key])]
    return fingerprint(*parts, digits=MODEL_FINGERPRINT_DIGITS)


def document_id(source_id: uuid.UUID, key: str) -> uuid.UUID:
    """UUIDv5 of the document's key within its source."""
    return uuid.uuid5(source_id, key)


def chunk_id(document: uuid.UUID, text_hash: str, occurrence: int) -> uuid.UUID:
    """UUIDv5 of the chunk's text within its document; `occurrence` counts equal texts from 0.

    The position is not part of it: a paragraph inserted at the top changes no id below it.
    """
    return uuid.uuid5(document, f"{text_hash}:{occurrence}")


def vector_id(chunk: uuid.UUID, kind: Kind) -> str:
    return f"{chunk}_{kind}"


def physical_collection(alias: str, model: str, generation: int = 1) -> str:
    """A collection behind an alias: one for each model, so that a new model is built while the old one serves, and
    a further generation of it while a rebuild fills one to take the place of the other."""
    return f"{alias}__{model}" if generation == 1 else f"{alias}__g{generation}__{model}"
