"""Limits of the stages, as plain values: when a sync must not delete, and what parsing one document may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeletionLimits:
    """A sync stops instead of deleting more than `share` of the recorded documents and more than `documents`."""

    share: float = 0.2
    documents: int = 20


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """`workers`: documents parsed at the same time. `seconds` and `memory_mib`: for one document."""

    workers: int = 2
    seconds: float = 60.0
    memory_mib: int = 1024
