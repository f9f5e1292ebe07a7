"""What a stage is about to do, in the same five words for every stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Plan:
    """Counts of one stage's desired − actual, as applied: rows (documents, chunks, texts, vectors) of the stage."""

    inserted: int = 0
    replaced: int = 0
    deleted: int = 0
    kept: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    def __str__(self) -> str:
        return ", ".join(f"{count} {word}" for word, count in asdict(self).items())
