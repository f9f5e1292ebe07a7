"""Ids and fingerprints: the identity of documents, chunks, texts, models and rows.

Every id is derived from the thing it names, so that any stage can run again without creating a second id. Hash inputs
are length-delimited: ("ab", "c") and ("a", "bc") differ. The row fingerprint is computed in SQL, where the rows are
(`rag_row_fingerprint`, in the migrations). No database here.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping

from rag_assets.pipeline.vectors import Kind

#: Hexadecimal digits of a fingerprint: 128 bits, beyond accidental collision.
FINGERPRINT_DIGITS = 32
#: Hexadecimal digits of a model fingerprint, which is part of collection names.
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
    """Fingerprint of the exact text given to the model. Together with a model fingerprint, it is the embed key."""
    return fingerprint(text)


def model_fingerprint(identity: Mapping[str, str]) -> str:
    """Fingerprint of everything that changes a model's vectors; part of physical collection names."""
    parts = [part for key in sorted(identity) for part in (key, identity[key])]
    return fingerprint(*parts, digits=MODEL_FINGERPRINT_DIGITS)


def model_name(identity: Mapping[str, str]) -> str:
    """Return the name of a model for people; empty for a user's embedder that does not state one."""
    return identity.get("model") or identity.get("backend", "")


def document_id(source_id: uuid.UUID, key: str) -> uuid.UUID:
    """UUIDv5 of the document's key within its source."""
    return uuid.uuid5(source_id, key)


def chunk_id(document: uuid.UUID, text_hash: str, occurrence: int) -> uuid.UUID:
    """UUIDv5 of the chunk's text within its document; `occurrence` counts equal texts from 0.

    The position is not part of the id: a paragraph inserted at the top changes no id below it.
    """
    return uuid.uuid5(document, f"{text_hash}:{occurrence}")


def vector_id(chunk: uuid.UUID, kind: Kind) -> str:
    return f"{chunk}_{kind}"


def physical_collection(alias: str, model: str, generation: int = 1) -> str:
    """Name of a collection behind an alias.

    One per model, so that a new model is built while the old one serves; a rebuild fills a further generation, which
    then replaces the old one.
    """
    return f"{alias}__{model}" if generation == 1 else f"{alias}__g{generation}__{model}"
