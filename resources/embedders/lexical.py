"""Vectors from words only: no model, no download, the default of the embedded stack.

Words, and pairs of characters in scripts without spaces, are hashed into the three kinds of vectors. Nothing is
learned; `lexical_terms` defines the terms, `lexical_lexicon` has their hashes. Stored vectors must not depend on other
documents, so document frequencies apply only to queries.

The bits of a vector depend on its text only, not on the batch, the process or the machine. This relies on BLAKE2b; on
sums of integers below 2**53, which are exact in float64 in any order; and on + - * / sqrt, which IEEE 754 rounds in one
way (no log, no pow, no BLAS). Characters newer than Unicode 14 (Python 3.11) follow the Unicode tables of the running
Python.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.term_statistics import TermStatistics
from rag_assets.pipeline.vectors import Embeddings, Kind, Multi, Sparse
from resources.embedders.lexical_lexicon import DIMENSION, TOKEN_SLOTS, Lexicon
from resources.embedders.lexical_terms import AMID_CHARACTERS, FULL, PARAMETERS, tokenize

#: Increase this when a change here or in a module `lexical_…` changes the vector of any text.
VERSION = "3"
TOKEN_DIMENSION = 128
#: Limit per text; dense and sparse vectors read the whole text.
MAX_TOKEN_VECTORS = 512
#: MaxSim counts every token equally, so tokens of lower weight ("of", pairs of hiragana) get a vector only if a text
#: has no others. nDCG@10 .85 -> .88 on English, .79 -> .87 on Arabic, unchanged on Japanese, with 1/7 to 1/3 fewer
#: vectors.
MIN_VECTOR_WEIGHT = 3

# BM25's saturation for documents, with a constant in place of the average length. It is in letters, because chunks are
# split by characters: a chunk of 1,000 has 150 tokens in English, 900 in Chinese (in tokens, 200, nDCG@10 on Japanese
# articles is .944, not .955). Chosen on English, Arabic and Japanese, where 500 to 1,000 are within .003.
K1 = 0.8
B = 0.75
REFERENCE_LENGTH = 700

# Slices limit the memory of a batch; discarding a full lexicon limits the memory of a process.
SLICE_TEXTS = 512
SLICE_CHARACTERS = 250_000


def _unit_sums(
    slots: NDArray[np.int64], weights: NDArray[np.generic], rows: int, columns: int
) -> NDArray[np.float32]:
    """Return the sums of the whole-number weights by slot, as rows of L2 norm 1."""
    sums = np.asarray(np.bincount(slots, weights, rows * columns), np.float64)
    sums = sums.reshape(rows, columns)
    peaks = np.abs(sums).max(axis=1, keepdims=True)
    # Rows without features, or with features of opposite signs in the same slots.
    cancelled = peaks[:, 0] == 0
    sums[cancelled, 0] = peaks[cancelled, 0] = 1
    # With 20 bits, the sum of the squares is also exact in any order.
    whole = np.rint(sums * (2.0**20 / peaks))
    return (whole / np.sqrt((whole * whole).sum(axis=1, keepdims=True))).astype(np.float32)


def _slices(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = characters = 0
    for end, text in enumerate(texts):
        if end > start and (
            end - start == SLICE_TEXTS or characters + len(text) > SLICE_CHARACTERS
        ):
            yield start, end
            start, characters = end, 0
        characters += len(text)
    if start < len(texts):
        yield start, len(texts)


class _Slice:
    """The tokens of a few texts, counted. Row i of every result is text i."""

    def __init__(self, texts: Sequence[str], lexicon: Lexicon) -> None:
        tokens = [tokenize(text) for text in texts]
        self.lexicon = lexicon
        self.lengths = np.array([len(row) for row in tokens], np.int64)
        numbers = map(lexicon.__getitem__, chain.from_iterable(tokens))
        self.numbers = np.fromiter(numbers, np.int64, self.lengths.sum())
        self.texts = np.repeat(np.arange(len(texts)), self.lengths)
        keys, self.counts = np.unique(self.texts * len(lexicon) + self.numbers, return_counts=True)
        self.rows, self.distinct = np.divmod(keys, max(1, len(lexicon)))

    def dense(self) -> NDArray[np.float32]:
        lexicon, count = self.lexicon, len(self.lengths)
        positions, repeats = lexicon.positions(self.distinct)
        features = lexicon.features_at(positions)
        # 1, 1.33, 1.5 … below 2, in units of 1/256, so a slot's sum stays an integer.
        saturated = np.rint(512.0 * self.counts / (self.counts + 1.0))
        slots = np.repeat(self.rows * DIMENSION, repeats)
        slots += lexicon.features.slots(features)
        weights = np.repeat(saturated, repeats)
        weights *= np.frombuffer(lexicon.dense_weights, np.uint16)[positions]
        weights *= lexicon.features.signs(features)
        vectors = _unit_sums(slots, weights, count, DIMENSION)
        vectors[self.lengths == 0] = 0
        return vectors

    def sparse(self, query: bool) -> Sparse:
        """Return BM25-like weights: saturated and length-normalised for documents, term weights for queries."""
        lexicon, count = self.lexicon, len(self.lengths)
        positions, repeats = lexicon.positions(self.distinct, only_terms=True)
        terms = lexicon.features.terms(lexicon.features_at(positions)).astype(np.int64)
        counts = np.repeat(self.counts, repeats)
        if query:
            weights = np.frombuffer(lexicon.term_weights, np.uint8)[positions]
            amid_characters = np.repeat(self._words_amid_characters(), repeats)
            counts = counts * np.where(amid_characters, AMID_CHARACTERS, weights)
        keys, inverse = np.unique(np.repeat(self.rows << 32, repeats) | terms, return_inverse=True)
        tf = np.bincount(inverse, counts, len(keys))
        rows = keys >> 32
        if query:
            values = tf / FULL
        else:
            letters_of_tokens = np.frombuffer(lexicon.letters, np.uint8)[self.numbers]
            lengths = np.bincount(self.texts, letters_of_tokens, count)
            values = tf * (K1 + 1) / (tf + K1 * (1 - B + B * lengths[rows] / REFERENCE_LENGTH))
        indptr = _offsets(np.bincount(rows, minlength=count))
        return Sparse(indptr, (keys & 0xFFFFFFFF).astype(np.uint32), values.astype(np.float32))

    def _words_amid_characters(self) -> NDArray[np.bool_]:
        """Return for each distinct token whether it is a word in a text whose tokens are mostly not words."""
        words = np.frombuffer(self.lexicon.words, np.bool_)[self.distinct]
        word_counts = np.bincount(self.rows, words * self.counts, len(self.lengths))
        return words & (2 * word_counts < self.lengths)[self.rows]

    def multi(self) -> tuple[Multi, int]:
        """Return the token vectors, and the number of texts with more tokens than vectors."""
        lexicon, count = self.lexicon, len(self.lengths)
        kept = np.frombuffer(lexicon.first_weights, np.uint8)[self.numbers] >= MIN_VECTOR_WEIGHT
        kept |= (np.bincount(self.texts[kept], minlength=count) == 0)[self.texts]
        lengths = np.bincount(self.texts[kept], minlength=count)
        places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        numbers = self.numbers[kept][places < MAX_TOKEN_VECTORS]
        distinct, inverse = np.unique(numbers, return_inverse=True)
        positions, repeats = lexicon.positions(distinct)
        features = lexicon.features_at(positions)
        slots = lexicon.features.token_slots(features)
        weights = np.frombuffer(lexicon.token_weights, np.uint16)[positions]
        weights = (weights * lexicon.features.signs(features).astype(np.int32))[:, None]
        weights = np.where(slots < 128, weights, -weights)
        rows = np.repeat(np.arange(len(distinct)) * TOKEN_DIMENSION, repeats)[:, None]
        slots = rows + slots % TOKEN_DIMENSION
        vectors = _unit_sums(slots.ravel(), weights.ravel(), len(distinct), TOKEN_DIMENSION)
        truncated = int((lengths > MAX_TOKEN_VECTORS).sum())
        return Multi(_offsets(np.minimum(lengths, MAX_TOKEN_VECTORS)), vectors[inverse]), truncated


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


class LexicalEmbedder:
    """An `Embedder` without a model. Documents and queries differ only in their sparse weights.

    Threads may share an instance: they take turns.
    """

    dimension = DIMENSION
    token_dimension = TOKEN_DIMENSION
    #: Terms are 31 bits of a hash.
    vocabulary = 2**31

    def __init__(self) -> None:
        self._lexicon = Lexicon()
        self._lock = threading.Lock()

    @property
    def identity(self) -> Mapping[str, str]:
        parameters = {
            "dimension": DIMENSION,
            "token_dimension": TOKEN_DIMENSION,
            "max_token_vectors": MAX_TOKEN_VECTORS,
            "min_vector_weight": MIN_VECTOR_WEIGHT,
            "token_slots": TOKEN_SLOTS,
            "k1": K1,
            "b": B,
            "reference_length": REFERENCE_LENGTH,
            **PARAMETERS,
        }
        return {"backend": "lexical", "version": VERSION} | {
            k: str(v) for k, v in parameters.items()
        }

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed texts of documents; a text with only white space is a failure."""
        return self._embed(texts, kinds, query=False)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed queries, in the same vector spaces."""
        return self._embed(texts, kinds, query=True)

    def weigh_queries(self, queries: Sparse, statistics: TermStatistics) -> Sparse:
        """Multiply the root of the weights by the terms' rarity; return them unchanged without statistics.

        nDCG@10 on passages .957 -> .968 English, .927 -> .939 Japanese, .910 -> .929 Arabic, .963 -> .972 Chinese,
        .932 -> .945 Persian.
        """
        if not statistics.texts:
            return queries
        return replace(queries, values=np.sqrt(queries.values) * statistics.rarity(queries.indices))

    def _embed(self, texts: Sequence[str], kinds: Collection[Kind], query: bool) -> Embeddings:
        dense = np.zeros((len(texts) if "dense" in kinds else 0, DIMENSION), np.float32)
        lengths = np.zeros(len(texts), np.int64)
        sparse: list[Sparse] = []
        multi: list[Multi] = []
        truncated = 0
        for start, end in _slices(texts):
            with self._lock:
                # Detach the lexicon while it is in use: if an interrupt leaves it half-written, it is discarded.
                lexicon, self._lexicon = self._lexicon, Lexicon()
                part = _Slice(texts[start:end], lexicon)
                lengths[start:end] = part.lengths
                if "dense" in kinds:
                    dense[start:end] = part.dense()
                if "sparse" in kinds:
                    sparse.append(part.sparse(query))
                if "multi" in kinds:
                    token_vectors, longer_texts = part.multi()
                    multi.append(token_vectors)
                    truncated += longer_texts
                if not lexicon.is_full:
                    self._lexicon = lexicon
        return Embeddings(
            dense=dense if "dense" in kinds else None,
            sparse=_join_sparse(sparse) if "sparse" in kinds else None,
            multi=_join_multi(multi) if "multi" in kinds else None,
            failures={int(i): "blank: only white space" for i in np.flatnonzero(lengths == 0)},
            truncated=truncated,
            tokens=int(lengths.sum()),
        )


def _join_sparse(parts: Sequence[Sparse]) -> Sparse:
    return Sparse(
        _offsets(
            np.concatenate([np.zeros(0, np.int64), *(np.diff(part.indptr) for part in parts)])
        ),
        np.concatenate([np.zeros(0, np.uint32), *(part.indices for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.values for part in parts)]),
    )


def _join_multi(parts: Sequence[Multi]) -> Multi:
    return Multi(
        _offsets(
            np.concatenate([np.zeros(0, np.int64), *(np.diff(part.offsets) for part in parts)])
        ),
        np.concatenate(
            [np.zeros((0, TOKEN_DIMENSION), np.float32), *(part.vectors for part in parts)]
        ),
    )
