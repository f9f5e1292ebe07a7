"""The plan of a stage (desired − actual), in the same five counts for every stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Plan:
    """Counts of a stage's rows (documents, chunks, texts or vectors) by the change that was applied to them."""

    inserted: int = 0
    replaced: int = 0
    deleted: int = 0
    kept: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    def __str__(self) -> str:
        return ", ".join(f"{count} {word}" for word, count in asdict(self).items())
