"""The claims of the benchmarks: each row claims a ratio of A to B, measured in turns within one run.

A claim names the module that measures it; that module describes the method. `report` prints the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True)
class Claim:
    """`target`: a bound (≤, ≥) for the median of the rounds' ratios, or the exact value of each ratio (=)."""

    row: str
    module: str
    a: str
    b: str
    target: float
    relation: Literal["≤", "≥", "="] = "≤"
    unit: str = "s"

    @property
    def aim(self) -> str:
        return f"{self.relation} {self.target:g}"


#: Whether the processor has AMX, which speeds up an encoder in bf16.
AMX = "amx_bf16" in (CPU.read_text() if (CPU := Path("/proc/cpuinfo")).is_file() else "")

CLAIMS = (
    Claim("1", "ingestion", "cold ingestion", "LangChain's index()", 0.9),
    Claim("2", "ingestion", "cold ingestion", "LlamaIndex's IngestionPipeline", 0.6),
    Claim("3", "ingestion", "nothing changed, assets", "LangChain's index()", 0.05),
    Claim(
        "3 command", "ingestion", "nothing changed, rag ingest", "LlamaIndex, as a process", 0.25
    ),
    Claim("4", "ingestion", "1 % of the files edited", "LlamaIndex's IngestionPipeline", 0.2),
    Claim("5", "ingestion", "cold ingestion", "sum of its floors", 1.8),
    Claim("6", "around_the_model", "cold ingestion, BGE-M3's shape", "embedding alone", 1.1),
    Claim("7", "encoder", "stock BGE-M3, all texts", "encoder", 4 if AMX else 1.5, "≥"),
    Claim("7 calls", "encoder", "stock BGE-M3, calls of 8", "encoder", 7, "≥"),
    Claim("8", "encoder", "token budget in order of arrival", "by length", 1.8, "≥"),
    Claim("9", "full_check", "full check, dense", "one scan of the ids", 1.5),
    Claim("9 sparse", "full_check", "full check, sparse", "one scan of the ids", 1.5),
    Claim("10", "repeated", "texts embedded, 30 % repeated", "distinct texts", 1, "=", ""),
    Claim("11", "ingestion", "cold ingestion", "without the safety", 1.05),
    Claim("11 edited", "ingestion", "1 % of the files edited", "without the safety", 1.05),
    Claim("12", "memory", "peak at ten times the documents", "peak", 1.1, unit="MiB"),
    Claim("13", "ranged", "100 idle sources, 100 runs", "one ranged run", 50, "≥"),
    Claim("13 steps", "ranged", "the same without processes", "one ranged run", 50, "≥"),
)


def of_module(module: str) -> tuple[str, ...]:
    return tuple(claim.row for claim in CLAIMS if claim.module == module)


@dataclass
class Measured:
    """The result of a benchmark: row -> (A, B) of each round, or row -> the reason why it was not measured.

    `conditions`: further facts about the run, such as corpora, seeds, versions.
    """

    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)

    def add(self, row: str, a: float, b: float) -> None:
        self.pairs.setdefault(row, []).append((a, b))


@dataclass(frozen=True)
class Verdict:
    """A claim and its measurement: medians of A, of B and of the rounds' ratios, and the extremes of the ratios."""

    claim: Claim
    a: float
    b: float
    ratio: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, claim: Claim, pairs: Sequence[tuple[float, float]]) -> Verdict:
        ratios = [a / b for a, b in pairs]
        return cls(
            claim,
            median(a for a, _ in pairs),
            median(b for _, b in pairs),
            median(ratios),
            min(ratios),
            max(ratios),
            len(pairs),
        )

    @property
    def reached(self) -> bool:
        if self.claim.relation == "=":
            return self.low == self.high == self.claim.target
        return (
            self.ratio >= self.claim.target
            if self.claim.relation == "≥"
            else self.ratio <= self.claim.target
        )


def number(value: float) -> str:
    """The value with three significant digits, enough for a ratio near its target."""
    digits = sum(value < limit for limit in (100, 10, 1))
    return f"{value:,.{digits}f}"


COLUMNS = ("row", "A", "B", "A", "B", "A / B", "spread", "target", "reached")


def cells(claim: Claim, measured: Measured) -> tuple[str, ...]:
    """The cells of the claim's row in the table."""
    if reason := measured.not_run.get(claim.row) or (claim.row not in measured.pairs and "not yet"):
        return (claim.row, claim.a, claim.b, "", "", "", "", claim.aim, f"not run: {reason}")
    verdict = Verdict.of(claim, measured.pairs[claim.row])
    return (
        claim.row,
        claim.a,
        claim.b,
        *(f"{number(value)} {claim.unit}".rstrip() for value in (verdict.a, verdict.b)),
        number(verdict.ratio),
        f"{number(verdict.low)} to {number(verdict.high)}",
        claim.aim,
        "yes" if verdict.reached else "no",
    )
