"""Peak memory of `rag ingest` for a small corpus and one ten times as large: `python -m tests.benchmarks.memory`.

`--documents 1000 10000` `--rounds 5` `--json FILE`. Only the process, without the servers. The batch should bound its
memory, so the ratio should be near 1.
"""

from __future__ import annotations

import json
import random
from itertools import accumulate, islice, product
from pathlib import Path

from tests.benchmarks.claims import Measured
from tests.benchmarks.rag_command import fresh_home, rag
from tests.benchmarks.report import finish, parser, say

#: 20,000 words; the frequency of the n-th is proportional to 1 / n, as in a language. If all words differed, the
#: full-text index would be several times as large as that of real documents.
SYLLABLES = [first + vowel for first in "bdfghjklmnprstvwz" for vowel in "aeiou"]
VOCABULARY = ["".join(parts) for parts in islice(product(SYLLABLES, repeat=3), 0, 600_000, 30)]
FREQUENCIES = list(accumulate(1 / rank for rank in range(1, len(VOCABULARY) + 1)))


def document(random_source: random.Random, number: int) -> str:
    """About 6 KB of Markdown: headings, paragraphs, a list, a code block."""
    parts = [f"# Document {number}: {words(random_source, 5)}"]
    for section in range(6):
        parts.append(f"## {section + 1}. {words(random_source, 4)}")
        parts += [words(random_source, 70) + "." for _ in range(2)]
        if section == 2:
            parts.append("\n".join(f"- {words(random_source, 8)}" for _ in range(5)))
        if section == 4:
            parts.append(f"```python\nvalue = {random_source.random()}\nprint(value)\n```")
    return "\n\n".join(parts) + "\n"


def words(random_source: random.Random, count: int) -> str:
    chosen = random_source.choices(VOCABULARY, cum_weights=FREQUENCIES, k=count)
    return " ".join(chosen).capitalize()


def write_corpus(folder: Path, documents: int, seed: int = 0) -> int:
    """Write a corpus that begins with the documents of every smaller one of the same seed. Returns its bytes."""
    random_source = random.Random(seed)
    written = 0
    for number in range(documents):
        path = folder / f"{number // 500:03d}" / f"{number:06d}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        written += path.write_text(document(random_source, number), encoding="utf-8")
    return written


def measure(documents: int) -> dict[str, float]:
    with fresh_home() as home:
        size = write_corpus(home / "corpus", documents)
        rag(home, "up")
        ingested = rag(home, "ingest", str(home / "corpus"), "--json")
        plan = ingested.report()["plan"]
        if plan["documents"]["inserted"] != documents:
            raise SystemExit(f"expected {documents} documents inserted, found {plan}")
        return {
            "documents": documents,
            "megabytes": size / 1e6,
            "chunks": plan["dense_vectors"]["inserted"],
            "seconds": ingested.seconds,
            "peak_mib": ingested.peak_rss / 2**20,
        }


def main() -> None:
    arguments = parser("memory", __doc__)
    arguments.add_argument("--documents", type=int, nargs=2, default=[1_000, 10_000])
    options = arguments.parse_args()
    measured, details = Measured(), []
    for _ in range(options.rounds):
        small, large = (measure(documents) for documents in options.documents)
        measured.add("12", large["peak_mib"], small["peak_mib"])
        details.append((large, small))
        say(json.dumps(details[-1]))
    measured.conditions["corpora"] = "generated, seed 0"
    for figures in details[-1]:
        size = f"{figures['megabytes']:.0f} MB, {figures['chunks']:,} chunks"
        measured.conditions[f"{figures['documents']:,} documents"] = size
    finish(options, measured, details)


if __name__ == "__main__":
    main()
