"""The lexical embedder: reproducible bits, valid vectors of any text, similar vectors of similar words.

Retrieval quality is measured elsewhere, on retrieval sets.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.vectors import KINDS, Embeddings
from resources.embedders import lexical, lexical_lexicon
from resources.embedders.lexical import MAX_TOKEN_VECTORS, LexicalEmbedder
from resources.embedders.lexical_terms import tokenize
from tests.support.lexical_vectors import arrays, rows

ENGLISH = "Dagster's assets are materialized; the index holds 2,497 documents (HNSW, ef=64)."
TEXTS = [
    ENGLISH,
    "東京タワーは、日本の東京都港区にある電波塔です。",
    "向量数据库支持混合检索。",
    "벡터 데이터베이스는 API를 제공한다.",
    "يدعم الفهرس البحث الهجين في المستندات",
    "کتاب‌های فارسی در ۱۴۰۲ منتشر شد",
    "हिन्दी में खोज करें",
    "ค้นหาเอกสารภาษาไทย",
    "Füße, naïve, ÉCOLE — поиск документов",
    "!!!",
    "🙂",
    "+",
]
# Stored vectors depend on these: if one changes, VERSION must change too.
GOLDEN = {
    "dense": "535c9700cd26e9ef8cb19cbaeeb55d73615ae6b44f21437c0ba7f6e4b5438079",
    "sparse": "b4e21a2036d724cfcf1c6d255d2f2519b0075d8e55493c127da15cadea491038",
    "multi": "4f045d8cdaaa3b37aee17fb2a881f0ac39a8a3501b9ecb2bc66824399f1b62e2",
    "query": "712540c909d0b2d16e95fe4e7ce2506cb8ed4934a6bbe00d72db157cc9876b1a",
}


def digest(*parts: np.ndarray) -> str:
    return sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def assert_valid(e: Embeddings, texts: list[str]) -> None:
    """Assert the invariants of `Embeddings` for each kind."""
    dense, indptr, indices, values, offsets, vectors = arrays(e)
    assert [a.dtype for a in (dense, indptr, indices, values, offsets, vectors)] == [
        np.dtype(t) for t in ("f4", "i8", "u4", "f4", "i8", "f4")
    ]
    assert dense.shape == (len(texts), 1024) and vectors.shape[1] == 128
    assert len(indptr) == len(offsets) == len(texts) + 1
    assert (indptr[-1], offsets[-1]) == (len(indices), len(vectors)) and len(values) == len(indices)
    assert np.isfinite(values).all() and (values > 0).all()
    assert (indices < 2**31).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert set(e.failures) == {i for i, text in enumerate(texts) if not text.strip()}
    for i in range(len(texts)):
        terms, tokens = indices[indptr[i] : indptr[i + 1]], offsets[i + 1] - offsets[i]
        if i in e.failures:
            assert not dense[i].any() and len(terms) == 0 and tokens == 0
        else:
            assert abs(np.linalg.norm(dense[i]) - 1) < 1e-5
            assert len(terms) > 0 and 0 < tokens <= MAX_TOKEN_VECTORS
            assert (np.diff(terms.astype(np.int64)) > 0).all()


def test_vectors_of_fixed_texts_never_change() -> None:
    dense, indptr, indices, values, offsets, vectors = arrays(LexicalEmbedder().embed(TEXTS, KINDS))
    query = LexicalEmbedder().embed_queries(TEXTS, KINDS).sparse
    assert query is not None
    assert {
        "dense": digest(dense),
        "sparse": digest(indptr, indices, values),
        "multi": digest(offsets, vectors),
        "query": digest(query.indptr, query.indices, query.values),
    } == GOLDEN


@given(st.lists(st.text(st.characters(), max_size=40), max_size=8), st.randoms())
def test_any_text_gets_valid_vectors_that_do_not_depend_on_the_batch(texts, random) -> None:
    texts = texts + TEXTS[: random.randrange(len(TEXTS))]
    order = random.sample(range(len(texts)), len(texts))
    embedder = LexicalEmbedder()
    batch = embedder.embed([texts[i] for i in order], KINDS)
    assert_valid(batch, [texts[i] for i in order])
    assert_valid(embedder.embed_queries(texts, KINDS), texts)
    for row, i in enumerate(order):
        assert rows(LexicalEmbedder().embed([texts[i]], KINDS), 0) == rows(batch, row)


def test_slices_and_discarded_lexicons_change_no_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{TEXTS[i % len(TEXTS)]} {i} {i * i} " * (1 + i % 7) for i in range(600)]
    expected = digest(*arrays(LexicalEmbedder().embed(texts, KINDS)))
    monkeypatch.setattr(lexical, "SLICE_TEXTS", 100)
    monkeypatch.setattr(lexical, "SLICE_CHARACTERS", 3000)
    monkeypatch.setattr(lexical_lexicon, "LEXICON_SIZE", 1000)
    embedder = LexicalEmbedder()
    assert digest(*arrays(embedder.embed(texts, KINDS))) == expected
    assert digest(*arrays(embedder.embed(texts, KINDS))) == expected


def test_earlier_texts_change_no_vector() -> None:
    words = [f"word{i * 7919}" for i in range(200)]
    texts = [*TEXTS, " ".join(words)]
    embedder = LexicalEmbedder()
    embedder.embed([" ".join(reversed(words)), *reversed(TEXTS)], KINDS)
    expected = arrays(LexicalEmbedder().embed(texts, KINDS))
    assert digest(*arrays(embedder.embed(texts, KINDS))) == digest(*expected)


def test_threads_may_share_an_embedder() -> None:
    batches = [
        [f"{thread} {i} {j * 7919}" for j in range(3)] for i in range(50) for thread in "abcd"
    ]
    expected = [digest(*arrays(LexicalEmbedder().embed(batch, KINDS))) for batch in batches]
    shared, interval = LexicalEmbedder(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda batch: shared.embed(batch, KINDS), batches))
    finally:
        sys.setswitchinterval(interval)
    assert [digest(*arrays(embeddings)) for embeddings in results] == expected


def test_an_interrupt_does_not_damage_an_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, digests, real = LexicalEmbedder(), iter(range(20)), lexical_lexicon._digest

    def interrupted(key: str) -> bytes:
        if next(digests, None) is None:
            raise KeyboardInterrupt
        return real(key)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(lexical_lexicon, "_digest", interrupted)
        embedder.embed(TEXTS, KINDS)
    expected = digest(*arrays(LexicalEmbedder().embed(TEXTS, KINDS)))
    assert digest(*arrays(embedder.embed(TEXTS, KINDS))) == expected


def test_no_texts_return_empty_arrays() -> None:
    empty = LexicalEmbedder().embed([], KINDS)
    assert_valid(empty, [])
    assert (empty.tokens, empty.truncated, dict(empty.failures)) == (0, 0, {})


def test_a_text_with_only_white_space_fails_alone() -> None:
    texts = ["", "one", " \n\t\u3000\u00a0", "two"]
    result = LexicalEmbedder().embed(texts, KINDS)
    assert_valid(result, texts)
    assert set(result.failures) == {0, 2} and "blank" in result.failures[2]
    only_blank = LexicalEmbedder().embed(["", "  "], KINDS)
    assert_valid(only_blank, ["", "  "])


def test_symbols_whose_features_cancel_still_get_a_vector() -> None:
    symbols = [
        chr(code)
        for start, end in ((0x2190, 0x2C00), (0x1F300, 0x1FB00))
        for code in range(start, end)
    ]
    result = LexicalEmbedder().embed(symbols, KINDS)
    assert_valid(result, symbols)
    assert result.dense is not None
    # The two features of 1 in 2,048 symbols cancel; about 4,700 symbols contain such a case.
    assert (result.dense[:, 0] == 1).any()


def test_only_the_requested_kinds_are_returned() -> None:
    sparse = LexicalEmbedder().embed(TEXTS, ["sparse"])
    assert sparse.dense is None and sparse.multi is None and sparse.sparse is not None
    no_kind = LexicalEmbedder().embed(TEXTS, [])
    assert no_kind.dense is no_kind.sparse is no_kind.multi is None
    assert no_kind.tokens == sparse.tokens == sum(len(tokenize(text)) for text in TEXTS)


def test_only_token_vectors_stop_at_the_limit() -> None:
    words = [f"word{i}" for i in range(MAX_TOKEN_VECTORS + 88)]
    texts = [" ".join(words[:MAX_TOKEN_VECTORS]), " ".join(words)]
    result = LexicalEmbedder().embed(texts, KINDS)
    assert result.truncated == 1 and result.tokens == 2 * MAX_TOKEN_VECTORS + 88
    assert result.multi is not None and result.sparse is not None
    assert list(np.diff(result.multi.offsets)) == [MAX_TOKEN_VECTORS] * 2
    first, second = np.split(result.multi.vectors, 2)
    assert np.array_equal(first, second)
    assert list(np.diff(result.sparse.indptr)) == [len(words) - 88, len(words)]
    assert LexicalEmbedder().embed(texts, ["dense", "sparse"]).truncated == 0


def test_identity_is_text_and_contains_the_parameters() -> None:
    identity = LexicalEmbedder().identity
    assert identity["backend"] == "lexical" and identity["version"]
    assert all(isinstance(value, str) for value in identity.values())
    for constant in ("K1", "B", "REFERENCE_LENGTH", "DIMENSION", "MIN_VECTOR_WEIGHT"):
        assert identity[constant.lower()] == str(getattr(lexical, constant))


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("indexes", "the index"),
        ("index", "many indexes"),
        ("queries", "one query"),
        ("caches", "a cache"),
        ("searches", "one search"),
        ("東京", "東京都港区"),
        ("猫", "猫が好き"),
        ("데이터베이스", "데이터베이스는"),
        ("فهرس", "الفهرس الجديد"),
        ("API", "API를 쓰는"),
        ("全文检索", "支持全文检索功能"),
    ],
)
def test_query_and_document_share_a_term(query: str, document: str) -> None:
    embedder = LexicalEmbedder()
    query_vector = embedder.embed_queries([query], ["sparse"]).sparse
    document_vector = embedder.embed([document], ["sparse"]).sparse
    assert query_vector is not None and document_vector is not None
    assert np.intersect1d(query_vector.indices, document_vector.indices).size > 0


@pytest.mark.parametrize(
    ("word", "similar", "different"),
    [
        ("vectorize", "vectorization", "elephant"),
        ("materialize", "materialise", "umbrellas"),
        ("データベース", "データ", "冷蔵庫"),
        ("검색하다", "검색하는", "냉장고"),
        ("документ", "документов", "холодильник"),
        ("مستندات", "مستند", "ثلاجة"),
    ],
)
def test_similar_words_are_nearer_than_different_ones(
    word: str, similar: str, different: str
) -> None:
    result = LexicalEmbedder().embed([word, similar, different], KINDS)
    assert result.dense is not None and result.multi is not None
    assert result.dense[0] @ result.dense[1] > result.dense[0] @ result.dense[2] + 0.15
    first, second, third = np.split(result.multi.vectors, result.multi.offsets[1:-1])
    assert (first @ second.T).max(axis=1).mean() > (first @ third.T).max(axis=1).mean() + 0.15


def test_frequency_saturates_and_length_lowers_the_weight() -> None:
    def weight(text: str) -> float:
        sparse = LexicalEmbedder().embed([text], ["sparse"]).sparse
        term = LexicalEmbedder().embed(["vector"], ["sparse"]).sparse
        assert sparse is not None and term is not None
        return float(sparse.values[sparse.indices == term.indices[0]][0])

    once, twice, often = (weight("vector " * n + "filler " * (100 - n)) for n in (1, 2, 50))
    assert once < twice < often < lexical.K1 + 1
    assert often - twice < 100 * (twice - once)
    assert weight("vector " + "filler " * 400) < once


def test_length_is_in_letters_in_every_script() -> None:
    def weight(filler: str) -> float:
        sparse = LexicalEmbedder().embed(["vector\n" + filler], ["sparse"]).sparse
        term = LexicalEmbedder().embed(["vector"], ["sparse"]).sparse
        assert sparse is not None and term is not None
        return float(sparse.values[sparse.indices == term.indices[0]][0])

    assert weight("東京都港区" * 60) == weight("words " * 60) == weight("벡터로검색 " * 60)
    assert weight("a" * 5000) == weight("b" * 40)


def test_a_short_word_among_characters_counts_like_a_long_one() -> None:
    def weight(query: str) -> float:
        sparse = LexicalEmbedder().embed_queries([query, "API"], ["sparse"]).sparse
        assert sparse is not None
        first_row = slice(sparse.indptr[1])
        is_api = sparse.indices[first_row] == sparse.indices[-1]
        return float(sparse.values[first_row][is_api][0])

    assert weight("APIとは何ですか") == weight("API를 쓰는 벡터 데이터베이스") == 4
    assert weight("what is the API") == weight("what the API of 東京 is") == weight("API") < 0.5


def test_a_query_weighs_long_words_more_than_short_ones() -> None:
    embedder = LexicalEmbedder()
    words = ["of", "the", "index", "replication", "が", "です", "東京"]
    sparse = embedder.embed_queries(words, ["sparse"]).sparse
    assert sparse is not None
    of, the, index, replication, ga, desu, tokyo = (
        sparse.values[sparse.indptr[i] : sparse.indptr[i + 1]].max() for i in range(len(words))
    )
    assert of < the < index < replication <= tokyo
    assert ga < desu < tokyo
