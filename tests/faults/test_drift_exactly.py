"""Drift of each class in each collection, made during an ingestion, is found exactly and repaired by one repair.

The small form of tests/benchmarks/drift.py.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.drift import CLASSES, KINDS, VECTORS, prove
from tests.benchmarks.rag_command import Finished, command, fresh_home
from tests.support.processes import Started, run_rag, start_rag


def forked(home: Path, *arguments: str, vectors: str = "dense", fails: bool = False) -> Finished:
    """Run `rag` as the benchmark does, without 3 s of imports and without figures."""
    _, environment = command(home, vectors=vectors)
    process = run_rag(arguments, environment)
    assert process.returncode == int(fails), process.stdout + process.stderr
    return Finished(0, 0, 0, process.stdout)


def forked_ingestion(home: Path, folder: Path) -> Started:
    _, environment = command(home, vectors=VECTORS)
    return start_rag(["ingest", str(folder)], environment)


def test_drift_made_during_an_ingestion_is_found_exactly_and_repaired() -> None:
    with fresh_home() as home:
        proof = prove(home, 8, others=8, each=4, rag=forked, start=forked_ingestion)
    assert proof.rows == 8 * 12
    assert proof.found == {kind: dict.fromkeys(CLASSES, 4) for kind in KINDS}
    assert proof.repaired
    assert proof.written_again == 0
    assert proof.disagreements == []
