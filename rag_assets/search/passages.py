"""The passage of a hit: the sentence of its text that fits a query best, and the query's terms in it.

No model and no store: terms are words and, in scripts without spaces, pairs of characters, weighted by their form and
by their rarity among the sentences of the text. Sentences are in `sentences.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rag_assets.search.sentences import Sentence, split_sentences
from resources.embedders.lexical_terms import NGRAM_CHARACTERS, analyze, is_word, letters, tokenize

#: Weight of a word's n-grams, all together, beside the word's own: they match inflections.
NGRAM_SHARE = 0.5
#: Share of a word's n-grams that the query must have for the word to be marked.
SIMILAR = 0.6
#: Credit for the terms of the heading above a sentence, and factor of headings and questions: they announce an answer.
CONTEXT_CREDIT, ANNOUNCEMENT_FACTOR = 0.4, 0.25
#: Terms below this share of the best matching term's weight are not marked: "the", "of", particles.
MARKED_SHARE = 0.34
#: Characters of a query that are read.
QUERY_CHARACTERS = 2000

# Combining marks belong to the word: \w alone splits words of Hindi, Thai and vocalised Arabic.
_WORD = re.compile(
    "[^\\W_](?:[^\\W_]|[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0711-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ece\u0f35-\u0fbc\u102b-\u103e\u17b4-\u17d3])*"
)
_HIRAGANA = "".join(map(chr, range(0x3041, 0x30A0)))
_KANA_OR_HAN = re.compile("[\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence as a person reads it (white space joined, Markdown removed). `spans`: [start, end) of the terms."""

    text: str
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    """One token at a place of a text. `features`: its term and parts of it, with weights; `term`: the first one."""

    start: int
    end: int
    term: str
    features: Mapping[str, float]
    ngrams: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Candidate:
    sentence: Sentence
    tokens: list[_Token]
    features: dict[str, float] = field(default_factory=dict)


def best_passage(text: str, query: str) -> Passage:
    """Return the sentence of the text that fits the query best; without a common term, the first one."""
    sentences = split_sentences(text)
    if not sentences:
        return Passage("")
    wanted = _features(_tokens(query[:QUERY_CHARACTERS]))
    candidates = [_candidate(sentence) for sentence in sentences]
    rarity = _rarity(wanted, candidates)
    scores = [_score(candidate, wanted, rarity) for candidate in candidates]
    best = max(range(len(candidates)), key=lambda at: (scores[at], -at))
    return Passage(
        sentences[best].text, _spans(sentences[best].text, candidates[best].tokens, wanted)
    )


def _candidate(sentence: Sentence) -> _Candidate:
    tokens = _tokens(sentence.text)
    return _Candidate(sentence, tokens, _features(tokens))


def _rarity(wanted: Mapping[str, float], candidates: Sequence[_Candidate]) -> dict[str, float]:
    """Return feature -> BM25's inverse document frequency, each sentence counted as a document."""
    count = len(candidates)
    rarity: dict[str, float] = {}
    for feature in wanted:
        having = sum(feature in candidate.features for candidate in candidates)
        rarity[feature] = math.log(1 + (count - having + 0.5) / (having + 0.5))
    return rarity


def _score(
    candidate: _Candidate, wanted: Mapping[str, float], rarity: Mapping[str, float]
) -> float:
    context = _features(_tokens(candidate.sentence.context))
    score = 0.0
    for feature, weight in wanted.items():
        if feature in candidate.features:
            score += weight * rarity[feature]
        elif feature in context:
            score += weight * rarity[feature] * CONTEXT_CREDIT
    # A long sentence contains more terms by chance.
    score /= 1 + len(candidate.sentence.text) / 1000
    if candidate.sentence.announces:
        return (score + 1e-9) * ANNOUNCEMENT_FACTOR
    return score + 1e-9


def _tokens(text: str) -> list[_Token]:
    """Return the tokens with their places in the text as it is written."""
    tokens: list[_Token] = []
    for match in _WORD.finditer(text):
        word, at = match.group(), match.start()
        parts = tokenize(word)
        # In scripts without spaces each character begins a token, a pair.
        lengths = [1 if letters(part) == 1 else len(part) for part in parts]
        # If normalisation changes the length (ß, square kana, Arabic vowels), the whole word is the place.
        aligned = sum(lengths) == len(word)
        for part, length in zip(parts, lengths, strict=True):
            start, end = (at, at + len(part)) if aligned else match.span()
            tokens.append(_token(part, start, end))
            at += length
    return tokens


def _token(part: str, start: int, end: int) -> _Token:
    terms, ngrams = analyze(part)
    features = {term: float(weight) for term, weight in terms}
    for ngram in ngrams:
        share = terms[0][1] * NGRAM_SHARE / len(ngrams)
        features[ngram] = features.get(ngram, 0.0) + share
    return _Token(start, end, terms[0][0], features, frozenset(ngrams))


def _features(tokens: Sequence[_Token]) -> dict[str, float]:
    features: dict[str, float] = {}
    for token in tokens:
        for feature, weight in token.features.items():
            features[feature] = max(features.get(feature, 0.0), weight)
    return features


def _spans(
    text: str, tokens: Sequence[_Token], wanted: Mapping[str, float]
) -> tuple[tuple[int, int], ...]:
    """Return the places of the terms that the query has, joined where they touch."""
    matching = [(token, token.features[token.term]) for token in tokens if _matches(token, wanted)]
    least = MARKED_SHARE * max((weight for _, weight in matching), default=0.0)
    spans: list[tuple[int, int]] = []
    for token, weight in matching:
        if weight < least:
            continue
        if spans and token.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], token.end))
        else:
            spans.append((token.start, token.end))
    trimmed = [_without_particles(text, *span) for span in spans]
    # A lone character of a script without spaces is chance: the word has a second one.
    words = [
        span for span in trimmed if span[1] - span[0] > 1 or not _KANA_OR_HAN.match(text, span[0])
    ]
    return tuple(words or trimmed)


def _without_particles(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the place without hiragana at its ends, unless it contains nothing else: in 時まで the word is 時."""
    inner = text[start:end].strip(_HIRAGANA)
    if not inner or not _KANA_OR_HAN.search(inner):
        return start, end
    start += text[start:end].index(inner)
    return start, start + len(inner)


def _matches(token: _Token, wanted: Mapping[str, float]) -> bool:
    if token.term in wanted:
        return True
    if not is_word(token.term) or len(token.term) > NGRAM_CHARACTERS:
        # In Hangul a word contains its particles; two common syllables are the word.
        return any(feature in wanted for feature in token.features if feature.startswith("~"))
    common = sum(ngram in wanted for ngram in token.ngrams)
    return common >= SIMILAR * len(token.ngrams) > 0
