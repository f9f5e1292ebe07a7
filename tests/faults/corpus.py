"""A folder whose generations all change it by the same amount: edits, deletions, renames, reverts."""

from __future__ import annotations

from pathlib import Path

FILES = 24
#: Files that each generation removes, and adds.
STEP = 4


def write(root: Path, generation: int) -> None:
    """Of each four files, one is edited, one alternates between two texts, one stays the same, one is renamed."""
    root.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for n in range(generation * STEP, generation * STEP + FILES):
        kind = n % 4
        name = f"{n:06d}-{generation:06d}.md" if kind == 3 else f"{n:06d}.md"
        version = {0: generation, 1: generation % 2}.get(kind, 0)
        files[name] = _text(n, version)
    for path in root.iterdir():
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        path = root / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _text(n: int, version: int) -> str:
    parts = [f"# Hall {n:06d}"]
    for section in range(5):
        edited = version if section in (1, 3) else 0
        parts.append(
            f"## Section {section} of hall {n:06d}\n\n"
            + f"The instrument {n:06d} in case {section}, described for the time {edited:06d}, was made of brass "
            f"and shows the planet {n * 7:06d} above the river. " * 4
        )
    return "\n\n".join(parts) + "\n"
