"""Is each text embedded once, however often it occurs? `python -m tests.benchmarks.repeated [--documents 300]`.

Each round has its own corpus (the round's number is the seed), in which 30 % of the chunks are repeated: copies of
whole documents under another name, and sections that documents share. It is ingested, edited, and ingested as a second
source. The embedder counts the texts that it receives; they are compared with the distinct texts.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import psycopg

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.embedded.stack import running
from tests.benchmarks.claims import Measured
from tests.benchmarks.free_embedder import FreeEmbedder
from tests.benchmarks.memory import words
from tests.benchmarks.rag_command import fresh_home, rag
from tests.benchmarks.report import finish, parser
from tests.benchmarks.workload import markdown_files

#: Share of the chunks that are not the first with their text, and its tolerance for a corpus.
SHARE, TOLERANCE = 0.3, 0.03
#: Sections per document. Each becomes one chunk, as two are too long for one.
SECTIONS = 9
#: Number of sections that documents share.
BOILERPLATE = 12


class CountingEmbedder(FreeEmbedder):
    """Writes the number of its texts, one line per call, to a file in the home that RAG_HOME names."""

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        with calls(Path(os.environ["RAG_HOME"])).open("a") as file:
            file.write(f"{len(texts)}\n")
        return super().embed(texts, kinds)


def calls(home: Path) -> Path:
    return home / "model-calls"


def write_corpus(folder: Path, documents: int, seed: int) -> None:
    """One in ten documents is a copy, and two of the nine sections of each are boilerplate: 0.1 + 0.9 · 2 / 9 = 0.3."""
    random_source = random.Random(seed)
    folder.mkdir(parents=True)

    def section() -> str:
        return f"## {words(random_source, 4)}\n\n{words(random_source, 90)}."

    shared = [section() for _ in range(BOILERPLATE)]
    for number in range(documents):
        path = folder / f"{number:05d}.md"
        if number % 10 == 9:
            shutil.copyfile(folder / f"{number - 5:05d}.md", path)
            continue
        parts = [section() for _ in range(SECTIONS - 2)]
        for part in random_source.sample(shared, 2):
            parts.insert(random_source.randrange(1, len(parts)), part)
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def measure(documents: int, seed: int) -> tuple[int, int, float]:
    """(texts that the model received, distinct texts that ever existed, share of repeated chunks)."""
    embedder = "tests.benchmarks.repeated:CountingEmbedder"
    with fresh_home() as home:
        folder, second = home / "first", home / "second"
        write_corpus(folder, documents, seed)
        rag(home, "ingest", str(folder), embedder=embedder)
        texts, chunks = _texts(home)
        share = 1 - len(texts) / chunks
        if abs(share - SHARE) > TOLERANCE:
            raise SystemExit(f"expected {SHARE:.0%} of {chunks} chunks repeated, found {share:.1%}")
        for path in markdown_files(folder)[::7]:
            path.write_text(f"A line before all others.\n\n{path.read_text()}", encoding="utf-8")
        rag(home, "ingest", str(folder), embedder=embedder)
        shutil.copytree(folder, second)
        rag(home, "ingest", str(second), embedder=embedder)
        texts |= _texts(home)[0]
        return sum(map(int, calls(home).read_text().split())), len(texts), share


def _texts(home: Path) -> tuple[set[str], int]:
    """The distinct texts of the current chunks, and the number of these chunks."""
    with psycopg.connect(running(home)["postgres"]) as connection:
        contents = [
            content for (content,) in connection.execute("SELECT content FROM document_chunks")
        ]
    return set(contents), len(contents)


def main() -> None:
    arguments = parser("repeated", __doc__)
    arguments.add_argument("--documents", type=int, default=300)
    options = arguments.parse_args()
    measured, shares = Measured(), []
    for seed in range(options.rounds):
        embedded, distinct, share = measure(options.documents, seed)
        measured.add("10", embedded, distinct)
        shares.append(f"{share:.1%}")
    measured.conditions["corpora"] = f"generated, seeds 0 to {options.rounds - 1}"
    measured.conditions["repeated"] = ", ".join(shares)
    finish(options, measured)


if __name__ == "__main__":
    main()
