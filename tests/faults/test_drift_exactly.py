"""Drift of each class in each collection, made during an ingestion, is found exactly and repaired by one repair.

The small form of tests/benchmarks/drift.py.
"""

from __future__ import annotations

from tests.benchmarks.drift import CLASSES, KINDS, prove
from tests.benchmarks.rag_command import fresh_home


def test_drift_made_during_an_ingestion_is_found_exactly_and_repaired() -> None:
    with fresh_home() as home:
        proof = prove(home, documents=60, others=40, each=10)
    assert proof.rows == 60 * 12
    assert proof.found == {kind: dict.fromkeys(CLASSES, 10) for kind in KINDS}
    assert proof.repaired
    assert proof.written_again == 0
    assert proof.disagreements == []
