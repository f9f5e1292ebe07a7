"""The lexical embedder's lexicon: the numbers, weights and hashes of tokens and of their features, as arrays.

A feature is a term or an n-gram. No texts and no vectors; `lexical_terms` has the features of a token. Changes here
change vectors: increase `VERSION` in `lexical.py`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resources.embedders.lexical_terms import FULL, analyze, is_word, letters

S = TypeVar("S", bound=np.generic)

#: Of the dense vectors.
DIMENSION = 1024
#: Slots of a feature in a token's vector. With one slot of 128, some tokens of any text collide.
TOKEN_SLOTS = 8
#: Characters of the tokens in a lexicon, plus 10 a token, and distinct features: each limit is about 100 MB.
LEXICON_SIZE, LEXICON_FEATURES = 4_000_000, 500_000
#: Of a feature: a term id, a slot of the dense vector with a sign (4 bytes each), and the slots of the token's vector.
_DIGEST_BYTES = 8 + TOKEN_SLOTS


class Features(dict[str, int]):
    """Feature numbers in order of appearance, and the features' digests. Most features belong to many tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.digests = bytearray()

    def __missing__(self, feature: str) -> int:
        self.digests += _digest(feature)
        number = self[feature] = len(self)
        return number

    def terms(self, features: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the ids of these features as terms, below 2**31."""
        return self._of(features, lambda parts: (parts[:, 0] >> 1).astype(np.uint32))

    def slots(self, features: NDArray[np.uint32]) -> NDArray[np.uint16]:
        """Return the slots of these features in a dense vector."""
        return self._of(features, lambda parts: (parts[:, 1] % DIMENSION).astype(np.uint16))

    def signs(self, features: NDArray[np.uint32]) -> NDArray[np.int8]:
        """Return 1 or -1 for each of these features: the sign of its weights."""
        return self._of(
            features,
            lambda parts: (parts[:, 1] >> 31).astype(np.int8) * np.int8(2) - np.int8(1),
        )

    def token_slots(self, features: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Return the slots of these features in a token's vector, with a sign in bit 7."""
        return self._of(features, lambda parts: np.ascontiguousarray(parts[:, 2:]).view(np.uint8))

    def _of(
        self, features: NDArray[np.uint32], read: Callable[[NDArray[np.uint32]], NDArray[S]]
    ) -> NDArray[S]:
        """Return `read` for these features: a query has few of them, a batch of documents each one many times."""
        parts = np.frombuffer(self.digests, "<u4").reshape(-1, _DIGEST_BYTES // 4)
        return read(parts[features]) if len(features) < len(parts) else read(parts)[features]


class Lexicon(dict[str, int]):
    """Token numbers in order of appearance, and the tokens' terms and features as a CSR matrix.

    The numbers depend on earlier texts, so they must never affect a vector.
    """

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.features = Features()
        # For each token: the weight of its first term, whether it is a word, its letters, and the number of its terms,
        # which are its first features.
        self.first_weights = bytearray()
        self.words = bytearray()
        self.letters = bytearray()
        self.terms = bytearray()
        # For each feature of a token: its number, its weight as a term, and its weights in the dense vector and in the
        # token's vector, at most 1024.
        self.numbers = array("I")
        self.term_weights = bytearray()
        self.dense_weights = array("H")
        self.token_weights = array("H")
        self.starts = array("q", [0])

    @property
    def is_full(self) -> bool:
        return self.size >= LEXICON_SIZE or len(self.features) >= LEXICON_FEATURES

    def __missing__(self, token: str) -> int:
        terms, ngrams = analyze(token)
        weights = tuple([weight for _, weight in terms])
        self.size += len(token) + 10
        self.first_weights.append(weights[0])
        self.words.append(is_word(token))
        self.letters.append(letters(token))
        self.terms.append(len(terms))
        self.numbers.extend(map(self.features.__getitem__, [term for term, _ in terms] + ngrams))
        term_weights, dense_weights, token_weights = _feature_weights(weights, len(ngrams))
        self.term_weights += term_weights
        self.dense_weights += dense_weights
        self.token_weights += token_weights
        self.starts.append(len(self.numbers))
        number = self[token] = len(self)
        return number

    def positions(
        self, tokens: NDArray[np.int64], *, only_terms: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the positions of the features, or terms, of these tokens, and the number of them of each token."""
        starts = np.frombuffer(self.starts, np.int64)
        if only_terms:
            lengths = np.frombuffer(self.terms, np.uint8)[tokens].astype(np.int64)
        else:
            lengths = starts[tokens + 1] - starts[tokens]
        shifts = starts[tokens] - (np.cumsum(lengths) - lengths)
        return np.repeat(shifts, lengths) + np.arange(lengths.sum()), lengths

    def features_at(self, positions: NDArray[np.int64]) -> NDArray[np.uint32]:
        return np.frombuffer(self.numbers, np.uint32)[positions]


@cache
def _feature_weights(terms: tuple[int, ...], ngrams: int) -> tuple[bytes, array[int], array[int]]:
    """Return the weights of a token's features as terms, in a dense vector, and in the token's vector."""
    # A product of two dense vectors contains the weight twice, hence the root. In a token's own vector, n-grams count
    # more: nDCG@10 .88 -> .89 on English, .87 -> .88 on Arabic.
    dense = [math.sqrt(weight / FULL) for weight in terms]
    token = [root / 2 if ngrams else root for root in dense]
    if ngrams:
        roots = [math.sqrt(terms[0] / FULL / ngrams)] * ngrams
        dense, token = dense + roots, token + roots
    whole = [
        array("H", [max(1, round(weight * 1024)) for weight in part]) for part in (dense, token)
    ]
    return bytes(terms) + bytes(ngrams), whole[0], whole[1]


def _digest(key: str) -> bytes:
    # "surrogatepass": lone surrogates from broken files must not stop the run.
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
