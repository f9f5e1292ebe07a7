"""Retrieval quality compared with BM25 on the same chunks: `python -m tests.benchmarks.retrieval [SET…] [--json FILE]`.

Each retrieval set is ingested twice by `rag`: its articles as files, judged by passages that chunks overlap, and its
passages as rows of a JSON lines file, judged by document. `rag eval` runs every query in every mode with the embedder
`lexical`. `bm25s` ranks the texts of the same chunks by words, or by character bigrams for Chinese and Japanese.
"""
# bm25s is not a dependency of this project:
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import psycopg
from rich.console import Console
from rich.table import Column, Table

from rag_assets.pipeline.relevance import query_scores
from resources.embedded.stack import running
from resources.parsing.decoding import clean
from resources.postgres.evaluation.retrieval_sets import get_set, queries_of, relevant_of
from tests.benchmarks.rag_command import ROOT, fresh_home, rag

SETS = ROOT.parent / "shared" / "data" / "qa"
MODES = ("dense", "sparse", "hybrid")
SHOWN = ("recall@1", "recall@10", "nDCG@10")
#: Minimum ratios of the hybrid's nDCG@10: to BM25's, and to that of the better of its parts.
LEAST_TO_BM25, LEAST_TO_BEST = 1.0, 0.97

Means = dict[str, float]

out = Console(highlight=False, width=120)


@dataclass(frozen=True)
class Result:
    """Result of one set in one form. `means`: mode -> measure -> mean over the queries."""

    name: str
    form: str
    queries: int
    chunks: int
    means: Mapping[str, Means]

    @property
    def ratios(self) -> tuple[float, float]:
        """nDCG@10 of the hybrid: to BM25's, and to that of the best single mode."""
        ndcg = {mode: measures["nDCG@10"] for mode, measures in self.means.items()}
        return ndcg["hybrid"] / ndcg["BM25"], ndcg["hybrid"] / max(ndcg["dense"], ndcg["sparse"])


def judgements_by_passage(folder: Path, file: Path) -> None:
    """Write the set's judgements with the articles' keys and the positions of passages in the parsed text.

    The set has positions in the original text, before NFC composes characters and before others are removed.
    """
    texts = {path.name: path.read_text("utf-8") for path in (folder / "articles").iterdir()}

    @cache
    def parsed_position(key: str, position: int) -> int:
        return len(clean(texts[key][:position]).lstrip())

    with (folder / "article_map.tsv").open(encoding="utf-8", newline="") as lines:
        passages = {row["corpus-id"]: row for row in csv.DictReader(lines, delimiter="\t")}
    with (folder / "qrels.tsv").open(encoding="utf-8", newline="") as lines:
        judgements = list(csv.DictReader(lines, delimiter="\t"))
    with file.open("w", encoding="utf-8") as output:
        output.write("query-id\tcorpus-id\tscore\tstart\tend\n")
        for row in judgements:
            passage = passages[row["corpus-id"]]
            key = passage["file"].removeprefix("articles/")
            start = parsed_position(key, int(passage["char_start"]))
            end = parsed_position(key, int(passage["char_end"]))
            end = min(end, len(clean(texts[key]).strip()))
            output.write(f"{row['query-id']}\t{key}\t{row['score']}\t{start}\t{end}\n")


def measure(folder: Path, form: str) -> Result:
    name = folder.name
    with fresh_home() as home:
        if form == "articles":
            target, relevant = folder / "articles", home / "qrels.tsv"
            home.mkdir(exist_ok=True)
            judgements_by_passage(folder, relevant)
        else:
            target, relevant = home / "passages.jsonl", folder / "qrels.tsv"
            parts = (folder / "corpus.jsonl", folder / "distractors.jsonl")
            target.write_bytes(b"".join(part.read_bytes() for part in parts if part.exists()))
        files = ("--queries", str(folder / "queries.jsonl"), "--relevant", str(relevant))
        for arguments in (
            ("sources", "add", name, str(target)),
            ("ingest", name),
            ("eval", "add", name, "--source", name, *files),
        ):
            rag(home, *arguments, vectors="dense,sparse", embedder="lexical")
        arguments = ("eval", "--set", name, "--json")
        finished = rag(home, *arguments, vectors="dense,sparse", embedder="lexical", fails=True)
        modes = finished.json()["evaluations"][0]["modes"]
        means = {mode: {shown: modes[mode][shown]["value"] for shown in SHOWN} for mode in MODES}
        with psycopg.connect(running(home)["postgres"], autocommit=True) as connection:
            bm25, queries, chunks = bm25_of(connection, name, form)
    return Result(name, form, queries, chunks, means | {"BM25": bm25})


def bm25_of(connection: psycopg.Connection, name: str, form: str) -> tuple[Means, int, int]:
    """Means of the measures of BM25, and the numbers of queries and chunks."""
    import bm25s

    query_set = get_set(connection, name)
    queries = dict(queries_of(connection, query_set.id))
    relevant = relevant_of(connection, query_set, list(queries))
    chunks = connection.execute(
        """SELECT CASE WHEN %s THEN c.id::text ELSE d.source_key END, c.content
           FROM document_chunks c JOIN documents d ON d.id = c.document_id WHERE d.source_uuid = %s ORDER BY c.id""",
        [form == "articles", query_set.source_id],
    ).fetchall()
    terms = bigrams if name.startswith(("zh", "ja")) else words
    index = bm25s.BM25()
    index.index([terms(text) for _, text in chunks], show_progress=False)
    ranked: dict[str, list[frozenset[str]]] = {}
    for query in relevant:
        scores = index.get_scores(terms(queries[query]))
        best = np.argsort(-scores, kind="stable")[:50]
        labels = dict.fromkeys(chunks[int(at)][0] for at in best if scores[at] > 0)
        ranked[query] = [frozenset([label]) for label in labels]
    scores_of = query_scores(relevant, ranked)
    means = {name: float(np.mean([row[name] for row in scores_of.values()])) for name in SHOWN}
    return means, len(relevant), len(chunks)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())


def bigrams(text: str) -> list[str]:
    return [
        pair
        for word in words(text)
        for pair in ([word] if word.isascii() or len(word) == 1 else map("".join, pairwise(word)))
    ]


def show(results: Sequence[Result]) -> None:
    columns = ["queries", "chunks", *MODES, "BM25", "hybrid / BM25", "hybrid / best"]
    for measure_name in SHOWN:
        table = Table("set", "form", *(Column(name, justify="right") for name in columns))
        table.title = measure_name
        for result in results:
            values = {mode: measures[measure_name] for mode, measures in result.means.items()}
            table.add_row(
                result.name,
                result.form,
                f"{result.queries:,}",
                f"{result.chunks:,}",
                *(f"{values[mode]:.3f}" for mode in (*MODES, "BM25")),
                f"{values['hybrid'] / values['BM25']:.3f}",
                f"{values['hybrid'] / max(values['dense'], values['sparse']):.3f}",
            )
        out.print(table)
    missed = [
        f"{result.name} {result.form}"
        for result in results
        if result.ratios[0] < LEAST_TO_BM25 or result.ratios[1] < LEAST_TO_BEST
    ]
    names = ", ".join(missed) or "none"
    out.print(
        f"nDCG@10 below {LEAST_TO_BM25} × BM25 or {LEAST_TO_BEST} × the best single mode: {names}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", help=f"folders in {SETS}; default: all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    try:
        import bm25s  # noqa: F401
    except ImportError:
        raise SystemExit(
            f"bm25s is not installed. Install it: {sys.executable} -m pip install bm25s"
        ) from None
    folders = [SETS / name for name in options.sets] or sorted(SETS.glob("*/"))
    if missing := [str(folder) for folder in folders if not (folder / "queries.jsonl").is_file()]:
        parser.error(f"no retrieval set: {', '.join(missing)}")
    results: list[Result] = []
    for folder in folders:
        for form in ("articles", "passages"):
            results.append(measure(folder, form))
            out.print(f"{folder.name} {form}: {json.dumps(results[-1].means)}", soft_wrap=True)
    show(results)
    if options.json:
        figures = [asdict(result) for result in results]
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
