"""Ids and fingerprints: derived from the thing that they name, never from its place."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.chunking import Chunk
from rag_assets.pipeline.identity import (
    FINGERPRINT_DIGITS,
    chunk_id,
    content_hash,
    document_id,
    fingerprint,
    model_fingerprint,
    physical_collection,
    text_hash,
    vector_id,
)
from resources.postgres.documents.chunks import ToChunk, chunk_rows

#: Lone surrogates included.
ANY_TEXT = st.text(st.characters(), max_size=8)
PARTS = st.lists(ANY_TEXT, max_size=4)


@given(PARTS, PARTS)
def test_fingerprints_depend_on_the_parts_and_not_on_their_concatenation(
    first: list[str], second: list[str]
) -> None:
    assert (fingerprint(*first) == fingerprint(*second)) == (first == second)


@given(ANY_TEXT, st.integers(0, 8))
def test_a_text_that_is_split_elsewhere_has_another_fingerprint(text: str, cut: int) -> None:
    for other in range(len(text) + 1):
        if other != min(cut, len(text)):
            assert fingerprint(text[:cut], text[cut:]) != fingerprint(text[:other], text[other:])
    assert fingerprint(text) not in (fingerprint(text, ""), fingerprint("", text), fingerprint())


def test_fingerprints_never_change() -> None:
    """A change of one of these orphans everything that users have stored."""
    assert fingerprint("ab", "c") == hashlib.sha256(b"2:ab1:c").hexdigest()[:FINGERPRINT_DIGITS]
    assert text_hash("東京") == hashlib.sha256(b"6:" + "東京".encode()).hexdigest()[:32]
    assert content_hash(b"x") == hashlib.sha256(b"x").hexdigest()
    source = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    document = document_id(source, "docs/a.md")
    assert document == uuid.uuid5(source, "docs/a.md")
    chunk = chunk_id(document, text_hash("x"), 0)
    assert chunk == uuid.uuid5(document, f"{text_hash('x')}:0")
    assert vector_id(chunk, "dense") == f"{chunk}_dense"
    assert physical_collection("dense_collection", "abc") == "dense_collection__abc"


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=4)), st.randoms())
def test_a_model_fingerprint_depends_on_the_identity_in_any_order(
    identity: dict[str, str], random
) -> None:
    items = list(identity.items())
    random.shuffle(items)
    name = model_fingerprint(dict(items))
    assert name == model_fingerprint(identity)
    assert len(name) == 12 and set(name) <= set("0123456789abcdef")
    for key in identity:
        assert model_fingerprint(identity | {key: identity[key] + "!"}) != name
        assert model_fingerprint({k: v for k, v in identity.items() if k != key}) != name


@given(st.uuids(), st.uuids(), st.text(max_size=20), st.text(max_size=20))
def test_documents_are_distinct_by_source_and_key(
    source: uuid.UUID, other: uuid.UUID, key: str, another: str
) -> None:
    ids = {(s, k): document_id(s, k) for s in (source, other) for k in (key, another)}
    assert len(set(ids.values())) == len(ids)
    assert all(document_id(s, k) == value for (s, k), value in ids.items())


def chunks_of(texts: list[str]) -> list[Chunk]:
    return [
        Chunk(text, "text", position, "", 1, None, len(text), 0)
        for position, text in enumerate(texts)
    ]


def ids_of(document: uuid.UUID, texts: list[str]) -> list[object]:
    whole = ToChunk(document, "".join(texts), False, None, None)
    return [row[0] for row in chunk_rows(document, whole, chunks_of(texts), [None] * len(texts))]


TEXTS = st.lists(st.sampled_from(["a", "b", "c", "東京", "x" * 50]), max_size=8)


@given(st.uuids(), TEXTS, TEXTS, st.integers(0, 8))
def test_chunks_keep_their_ids_when_other_chunks_come_and_go(
    document: uuid.UUID, texts: list[str], inserted: list[str], at: int
) -> None:
    """The ids depend on the bag of texts, that is, on how often each text occurs, and on nothing else."""
    before = ids_of(document, texts)
    assert len(set(before)) == len(texts)
    longer = texts[:at] + inserted + texts[at:]
    after = ids_of(document, longer)
    assert set(before) <= set(after) and len(set(after)) == len(longer)
    counts = Counter(longer)
    expected = {
        chunk_id(document, text_hash(text), occurrence)
        for text, count in counts.items()
        for occurrence in range(count)
    }
    assert set(after) == expected
    reordered = ids_of(document, longer[::-1])
    assert set(reordered) == set(after)


@given(st.uuids(), st.uuids(), TEXTS)
def test_equal_texts_in_two_documents_are_different_chunks(
    first: uuid.UUID, second: uuid.UUID, texts: list[str]
) -> None:
    ids = [row_id for document in (first, second) for row_id in ids_of(document, texts)]
    assert len(set(ids)) == len(texts) * len({first, second})
