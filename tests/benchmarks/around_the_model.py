"""The cost of ingestion besides the model: `python -m tests.benchmarks.around_the_model [--files 8] [--layers 24]`.

A: seconds of the assets in a first `rag ingest` of some generated files, with a model of BGE-M3's width, vocabulary and
random weights. B: the same texts in the same calls to the same embedder in a separate process. Both load the model.
With few layers or files the ratio is an upper bound: B grows with both, A − B hardly does.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import psycopg

from rag_assets.ingestion.embed import CALL_CHARS
from resources.child_process import ChildProcess
from resources.embedded.stack import running
from tests.benchmarks.claims import Measured
from tests.benchmarks.memory import write_corpus
from tests.benchmarks.rag_command import fresh_home, rag
from tests.benchmarks.report import finish, parser
from tests.support.tiny_bge_m3 import REAL, Shape, make_tiny_bge_m3

MAX_LENGTH = 512


def ingestion(files: int, model: Path) -> tuple[float, list[str]]:
    """Seconds of the assets, and the distinct texts of the chunks."""
    with fresh_home() as home:
        write_corpus(home / "corpus", files)
        rag(home, "up")
        report = rag(
            home, "ingest", str(home / "corpus"), "--json", vectors="dense,sparse", embedder="bge-m3",
            bge_m3_model=str(model), bge_m3_device="cpu", bge_m3_max_length=str(MAX_LENGTH),
        ).report()  # fmt: skip
        with psycopg.connect(running(home)["postgres"]) as connection:
            texts = connection.execute("SELECT DISTINCT content FROM document_chunks").fetchall()
    return sum(report["seconds"].values()), [text for (text,) in texts]


def embedding(texts: list[str], model: Path) -> float:
    """Seconds for embedding the texts in a separate process, loading the model included."""
    started = time.perf_counter()
    child = ChildProcess("resources.embedders.device_worker", errors=True)
    options = {"model": str(model), "device": "cpu", "max_length": MAX_LENGTH}
    child.connection.send(("bge-m3", options))
    call: list[str] = []
    for text in [*texts, ""]:
        if call and (not text or sum(map(len, call)) > CALL_CHARS):
            child.connection.send((call, ("dense", "sparse"), False))
            if failures := child.connection.recv().failures:
                raise SystemExit(f"invalid measurement, embedding failed: {failures}")
            call = []
        call.append(text)
    seconds = time.perf_counter() - started
    child.kill()
    return seconds


def main() -> None:
    arguments = parser("around_the_model", __doc__)
    arguments.add_argument("--files", type=int, default=8)
    arguments.add_argument("--layers", type=int, default=REAL.layers, help="of 24")
    options = arguments.parse_args()
    measured, texts = Measured(), []
    with tempfile.TemporaryDirectory() as folder:
        shape = Shape(options.layers, REAL.feed_forward, REAL.vocabulary, REAL.max_length)
        model = make_tiny_bge_m3(Path(folder), shape)
        for _ in range(options.rounds):
            whole, texts = ingestion(options.files, model)
            measured.add("6", whole, embedding(texts, model))
    measured.conditions |= {
        "layers": f"{options.layers} of {REAL.layers}",
        "texts": len(texts),
        "A - B": f"{median(a - b for a, b in measured.pairs['6']):.1f} s",
    }
    finish(options, measured)


if __name__ == "__main__":
    main()
