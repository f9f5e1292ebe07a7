"""Print which files of a corpus lose text: `python -m tests.support.completeness FOLDER…`; the same for tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from resources.errors import ParseError
from resources.parsing import ParsedDocument, ParserPool
from resources.parsing.completeness import Loss, measure_loss
from resources.parsing.formats import detect_format
from resources.parsing.source_text import source_text


class FileLoss(NamedTuple):
    """The loss of one file."""

    path: Path
    loss: Loss


def losses(
    paths: Iterable[Path], parse: Callable[[bytes, str], ParsedDocument]
) -> Iterator[FileLoss]:
    """Yield the loss of each file that has a reference and can be parsed."""
    for path in paths:
        data = path.read_bytes()
        try:
            source = source_text(data, detect_format(data, path.name))
            if source.strip():
                document = parse(data, path.name)
                text = f"{document.title}\n{document.text}"
                yield FileLoss(path, measure_loss(source, text))
        except ParseError:
            continue


def main() -> None:
    files = sorted(
        path for folder in sys.argv[1:] for path in Path(folder).rglob("*.*") if path.is_file()
    )
    with ParserPool() as parsers:
        measured = sorted(losses(files, parsers.parse), key=lambda file: -file.loss.share)
    for threshold in (0.01, 0.05):
        count = sum(file.loss.share > threshold for file in measured)
        print(f"{count} of {len(measured)} files lose more than {threshold:.0%} of their letters")
    for path, loss in measured:
        if loss.share > 0.002 or sum(loss.glued.values()) > 3:
            words = ", ".join(word for word, _ in loss.missing.most_common(8))
            glued = ", ".join(word for word, _ in loss.glued.most_common(8))
            print(f"{loss.share:6.1%}  {path.name}  missing: {words[:100]}  glued: {glued[:80]}")


if __name__ == "__main__":
    main()
