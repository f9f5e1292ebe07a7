"""Vectors from the words alone: no model, no download, the embedded default.

Words, and pairs of characters where a script has no spaces, are hashed into the three kinds of
vectors. Nothing is learned; what a term is, `lexical_terms.py` says. Document frequencies have no
place here, as a stored vector must not depend on other documents: queries are where they belong.

The bits of a vector depend on its text alone, not on the batch, the process or the machine. This
rests on: BLAKE2b; sums of integers below 2**53, which float64 adds exactly in any order; + - * /
sqrt, which IEEE 754 rounds in one way only (no log, no pow, no BLAS). Characters newer than
Unicode 14 (Python 3.11) follow the Unicode tables of the Python at hand.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.term_statistics import TermStatistics
from rag_assets.pipeline.vectors import Embeddings, Kind, Multi, Sparse
from resources.embedders.lexical_terms import (
    AMID_CHARACTERS,
    FULL,
    PARAMETERS,
    analyze,
    is_word,
    letters,
    tokenize,
)

VERSION = "2"  # raise it when code here or in lexical_terms.py gives any text another vector
DIMENSION = 1024
TOKEN_DIMENSION = 128
MAX_TOKEN_VECTORS = 512  # per text; dense and sparse read all of it
# MaxSim counts every token alike: what is worth less (of; pairs of hiragana) gets a vector only
# where a text has nothing else. nDCG@10 .85 -> .88 on English, .79 -> .87 on Arabic, as before on
# Japanese, with a seventh to a third fewer vectors.
MIN_VECTOR_WEIGHT = 3
# Of a feature in a token's vector: with a single slot of 128, some token of any text collides.
TOKEN_SLOTS = 8

# BM25's saturation on the documents' side; a constant where BM25 has the average length. It is in letters, as chunks
# are cut by characters: one of 1,000 has 150 tokens in English, 900 in Chinese (in tokens, 200, nDCG@10 on Japanese
# articles is .944, not .955). Chosen on English, Arabic and Japanese, where 500 to 1,000 are within .003.
K1 = 0.8
B = 0.75
REFERENCE_LENGTH = 700

# Of a hybrid's score: the dense vectors are the same words, hashed, and add inflections and misspellings by n-grams.
DENSE_SHARE = 0.2

# Slices bound the memory of a batch, and forgetting tokens the memory of a process.
SLICE_TEXTS = 512
SLICE_CHARACTERS = 250_000
LEXICON_SIZE = 4_000_000  # characters of the tokens known, and 10 more a token: about 100 MB


class _Lexicon(dict[str, int]):
    """Numbers tokens as first seen, and holds their terms and features as one CSR matrix each.

    The numbers depend on what was seen before and so must never reach a vector.
    """

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.worth = array("i")  # of the token's first term
        self.words = bytearray()  # whether it is one
        self.letters = array("B")
        self.terms = array("I")
        self.term_weights = array("i")
        self.term_starts = array("q", [0])
        self.slots = array("H")  # in the dense vector
        self.token_slots = bytearray()  # in a token's vector: TOKEN_SLOTS a feature, sign in bit 7
        self.slot_weights = array("i")  # signed, at most 1024, as are the next
        self.token_slot_weights = array("i")
        self.slot_starts = array("q", [0])

    def __missing__(self, token: str) -> int:
        terms, ngrams = analyze(token)
        self.size += len(token) + 10
        self.worth.append(terms[0][1])
        self.words.append(is_word(token))
        self.letters.append(letters(token))
        for term, weight in terms:
            self.terms.append(int.from_bytes(_digest(term)[:4], "little") >> 1)  # below 2**31
            self.term_weights.append(weight)
            # A weight enters a product of two dense vectors twice, hence its root. In a token's own
            # vector the n-grams matter more: nDCG@10 .88 -> .89 on English, .87 -> .88 on Arabic.
            root = math.sqrt(weight / FULL)
            self._add_feature(term, root, root / 2 if ngrams else root)
        for ngram in ngrams:
            root = math.sqrt(terms[0][1] / FULL / len(ngrams))
            self._add_feature(ngram, root, root)
        self.term_starts.append(len(self.terms))
        self.slot_starts.append(len(self.slots))
        number = self[token] = len(self)
        return number

    def _add_feature(self, feature: str, weight: float, token_weight: float) -> None:
        digest = _digest(feature)
        bits = int.from_bytes(digest[4:8], "little")
        sign = 1 if bits >> 31 else -1
        self.slots.append(bits % DIMENSION)
        self.token_slots += digest[8:]
        self.slot_weights.append(sign * max(1, round(weight * 1024)))
        self.token_slot_weights.append(sign * max(1, round(token_weight * 1024)))


def _digest(key: str) -> bytes:
    # "surrogatepass": lone surrogates come out of broken files, and are no reason to stop.
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8 + TOKEN_SLOTS).digest()


def _entries(
    starts: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the entries of these rows of a CSR matrix lie, and how many each row has."""
    lengths = starts[rows + 1] - starts[rows]
    shifts = starts[rows] - (np.cumsum(lengths) - lengths)
    return np.repeat(shifts, lengths) + np.arange(lengths.sum()), lengths


def _unit_sums(
    slots: NDArray[np.int64], weights: NDArray[np.generic], rows: int, columns: int
) -> NDArray[np.float32]:
    """Adds the whole-numbered weights up by slot, and makes rows of L2 norm 1 of them."""
    sums = np.asarray(np.bincount(slots, weights, rows * columns), np.float64)
    sums = sums.reshape(rows, columns)
    peaks = np.abs(sums).max(axis=1, keepdims=True)
    cancelled = peaks[:, 0] == 0  # features of one slot and opposite signs, or none at all
    sums[cancelled, 0] = peaks[cancelled, 0] = 1
    # In 20 bits the sum of the squares, too, is exact in any order.
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

    def __init__(self, texts: Sequence[str], lexicon: _Lexicon) -> None:
        tokens = [tokenize(text) for text in texts]
        self.lexicon = lexicon
        self.lengths = np.array([len(row) for row in tokens], np.int64)
        self.numbers = np.fromiter(
            (lexicon[t] for row in tokens for t in row), np.int64, self.lengths.sum()
        )
        self.texts = np.repeat(np.arange(len(texts)), self.lengths)
        keys, self.counts = np.unique(self.texts * len(lexicon) + self.numbers, return_counts=True)
        self.rows, self.distinct = np.divmod(keys, max(1, len(lexicon)))

    def dense(self) -> NDArray[np.float32]:
        lexicon, count = self.lexicon, len(self.lengths)
        where, repeats = _entries(np.frombuffer(lexicon.slot_starts, np.int64), self.distinct)
        # 1, 1.33, 1.5 … below 2, in whole 1/256: a slot's sum stays an integer.
        saturated = np.rint(512.0 * self.counts / (self.counts + 1.0))
        slots = np.repeat(self.rows * DIMENSION, repeats)
        slots += np.frombuffer(lexicon.slots, np.uint16)[where]
        weights = np.repeat(saturated, repeats)
        weights *= np.frombuffer(lexicon.slot_weights, np.int32)[where]
        vectors = _unit_sums(slots, weights, count, DIMENSION)
        vectors[self.lengths == 0] = 0
        return vectors

    def sparse(self, query: bool) -> Sparse:
        """A document's tf saturates, by length; a query's is weighted by what the term is worth."""
        lexicon, count = self.lexicon, len(self.lengths)
        where, repeats = _entries(np.frombuffer(lexicon.term_starts, np.int64), self.distinct)
        terms = np.frombuffer(lexicon.terms, np.uint32)[where].astype(np.int64)
        counts = np.repeat(self.counts, repeats)
        if query:
            weights = np.frombuffer(lexicon.term_weights, np.int32)[where]
            counts = counts * np.where(np.repeat(self._amid(), repeats), AMID_CHARACTERS, weights)
        keys, inverse = np.unique(np.repeat(self.rows << 32, repeats) | terms, return_inverse=True)
        tf = np.bincount(inverse, counts, len(keys))
        rows = keys >> 32
        if query:
            values = tf / FULL
        else:
            size = np.frombuffer(lexicon.letters, np.uint8)[self.numbers]
            lengths = np.bincount(self.texts, size, count)
            values = tf * (K1 + 1) / (tf + K1 * (1 - B + B * lengths[rows] / REFERENCE_LENGTH))
        indptr = _offsets(np.bincount(rows, minlength=count))
        return Sparse(indptr, (keys & 0xFFFFFFFF).astype(np.uint32), values.astype(np.float32))

    def _amid(self) -> NDArray[np.bool_]:
        """Of each distinct token: a word, in a text most of whose tokens are none."""
        words = np.frombuffer(self.lexicon.words, np.bool_)[self.distinct]
        of_text = np.bincount(self.rows, words * self.counts, len(self.lengths))
        return words & (2 * of_text < self.lengths)[self.rows]

    def multi(self) -> tuple[Multi, int]:
        """The token vectors, and how many texts have more tokens than get one."""
        lexicon, count = self.lexicon, len(self.lengths)
        worthy = np.frombuffer(lexicon.worth, np.int32)[self.numbers] >= MIN_VECTOR_WEIGHT
        worthy |= (np.bincount(self.texts[worthy], minlength=count) == 0)[self.texts]
        lengths = np.bincount(self.texts[worthy], minlength=count)
        places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        numbers = self.numbers[worthy][places < MAX_TOKEN_VECTORS]
        distinct, inverse = np.unique(numbers, return_inverse=True)
        where, repeats = _entries(np.frombuffer(lexicon.slot_starts, np.int64), distinct)
        slots = np.frombuffer(lexicon.token_slots, np.uint8).reshape(-1, TOKEN_SLOTS)[where]
        weights = np.frombuffer(lexicon.token_slot_weights, np.int32)[where, None]
        weights = np.where(slots < 128, weights, -weights)
        rows = np.repeat(np.arange(len(distinct)) * TOKEN_DIMENSION, repeats)[:, None]
        slots = rows + slots % TOKEN_DIMENSION
        vectors = _unit_sums(slots.ravel(), weights.ravel(), len(distinct), TOKEN_DIMENSION)
        truncated = int((lengths > MAX_TOKEN_VECTORS).sum())
        return Multi(_offsets(np.minimum(lengths, MAX_TOKEN_VECTORS)), vectors[inverse]), truncated


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


class LexicalEmbedder:
    """The `Embedder` without a model. Documents and queries differ in their sparse weights only.

    Threads may share one: they take turns.
    """

    dimension = DIMENSION
    token_dimension = TOKEN_DIMENSION
    vocabulary = 2**31  # terms are 31 bits of a hash

    def __init__(self) -> None:
        self._lexicon = _Lexicon()
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
        """Embeds documents' texts; a text of nothing but white space is a failure."""
        return self._embed(texts, kinds, query=False)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embeds queries, in the same spaces."""
        return self._embed(texts, kinds, query=True)

    def weigh_queries(self, queries: Sparse, statistics: TermStatistics) -> Sparse:
        """The worth by form, halved in effect where the frequency is known: nDCG@10 on passages .957 -> .968 English,
        .927 -> .939 Japanese, .910 -> .929 Arabic, .963 -> .972 Chinese, .932 -> .945 Persian.
        """
        if not statistics.texts:
            return queries
        return replace(queries, values=np.sqrt(queries.values) * statistics.rarity(queries.indices))

    def fusion_weights(self, query: str) -> Mapping[Kind, float]:
        """Of a hybrid search: the dense side's as far as the query is words. A script without spaces has no n-grams.

        Were it a fifth there, too, nDCG@10 would be .001 less on Japanese, .003 on Chinese.
        """
        tokens = tokenize(query)
        dense = DENSE_SHARE * sum(map(is_word, tokens)) / max(1, len(tokens))
        return {"dense": dense, "sparse": 1 - dense}

    def _embed(self, texts: Sequence[str], kinds: Collection[Kind], query: bool) -> Embeddings:
        dense = np.zeros((len(texts) if "dense" in kinds else 0, DIMENSION), np.float32)
        lengths = np.zeros(len(texts), np.int64)
        sparse: list[Sparse] = []
        multi: list[Multi] = []
        truncated = 0
        for start, end in _slices(texts):
            with self._lock:
                # Taken away meanwhile: one that an interrupt left half written is never seen again.
                lexicon, self._lexicon = self._lexicon, _Lexicon()
                part = _Slice(texts[start:end], lexicon)
                lengths[start:end] = part.lengths
                if "dense" in kinds:
                    dense[start:end] = part.dense()
                if "sparse" in kinds:
                    sparse.append(part.sparse(query))
                if "multi" in kinds:
                    matrices, longer = part.multi()
                    multi.append(matrices)
                    truncated += longer
                if lexicon.size < LEXICON_SIZE:
                    self._lexicon = lexicon
        return Embeddings(
            dense=dense if "dense" in kinds else None,
            sparse=_join_sparse(sparse) if "sparse" in kinds else None,
            multi=_join_multi(multi) if "multi" in kinds else None,
            failures={
                int(i): "blank: nothing but white space" for i in np.flatnonzero(lengths == 0)
            },
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
