"""An edit changes only the chunks next to it, and chunks change only with the version."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from statistics import mean

import pytest

from rag_assets.pipeline.chunking import CHUNKER_VERSION
from tests.support.chunk_texts import contents, sentence
from tests.support.extent import only_in_soak


def markdown_blocks(rng: random.Random) -> str:
    shape = rng.random()
    if shape < 0.12:
        return "#" * rng.choice([2, 2, 3, 3, 4]) + " " + sentence(rng, 2, 5)
    if shape < 0.25:
        return "```\n" + "\n".join(sentence(rng, 2, 8) for _ in range(rng.randint(1, 40))) + "\n```"
    if shape < 0.35:
        return "\n".join("- " + sentence(rng, 2, 12) for _ in range(rng.randint(1, 10)))
    return sentence(rng, 4, 60)


CASES: dict[str, tuple[Callable[[random.Random], str], str, bool]] = {
    "markdown with headings": (markdown_blocks, "\n\n", True),
    "paragraphs": (lambda rng: sentence(rng, 4, 60), "\n\n", True),
    "one paragraph of many lines": (lambda rng: sentence(rng, 4, 15), "\n", False),
    "one line of many sentences": (lambda rng: sentence(rng, 4, 30), " ", False),
}


#: Blocks of a text.
BLOCKS = 150
#: Edits of each of two texts, and the percentile at which an edit changes at most three chunks.
EDITS = [(60, 0.95), *only_in_soak((500, 0.97))]


@pytest.mark.parametrize(("edits", "percentile"), EDITS)
@pytest.mark.parametrize("case", CASES)
def test_an_edit_changes_only_the_chunks_next_to_it(
    case: str, edits: int, percentile: float
) -> None:
    make, glue, markdown = CASES[case]
    rng = random.Random(case)
    changed: list[int] = []
    for _ in range(2):
        blocks = [make(rng) for _ in range(BLOCKS)]
        before = set(contents(glue.join(blocks), markdown=markdown))
        for _ in range(edits):
            edited, index = blocks.copy(), rng.randrange(BLOCKS)
            block = blocks[index]
            edited[index : index + 1] = rng.choice(
                [
                    [],
                    [make(rng)],
                    [make(rng), block],
                    [block.replace("a", "A", 1)],
                    [block, make(rng), make(rng)],
                ]
            )
            after = contents(glue.join(edited), markdown=markdown)
            changed.append(sum(content not in before for content in after))
    changed.sort()
    most = changed[int(len(changed) * percentile)]
    print(f"{case}: mean {mean(changed):.2f}, {percentile:.0%} {most}, max {changed[-1]}")
    assert mean(changed) <= 1.7
    assert most <= 3
    assert changed[-1] <= 6


def test_an_edit_after_the_opening_of_a_paragraph_changes_at_most_three_chunks() -> None:
    rng = random.Random("within")
    words, sizes = [], []
    for _ in range(2):
        blocks = [sentence(rng, 20, 60) for _ in range(BLOCKS)]
        before = set(contents("\n\n".join(blocks)))
        for _ in range(60):
            index = rng.randrange(BLOCKS)
            opening, rest = blocks[index][:30], blocks[index][30:]
            place = rng.randrange(len(rest))
            for changed, counts in (
                # Same length as before.
                (rest[:place] + "*" + rest[place + 1 :], words),
                (rest + " " + sentence(rng, 4, 20), sizes),
                (rest[:place], sizes),
            ):
                edited = blocks.copy()
                edited[index] = opening + changed
                after = contents("\n\n".join(edited))
                counts.append(sum(content not in before for content in after))
    assert set(words) == {1}
    assert sum(count > 3 for count in sizes) <= 0.01 * len(sizes)
    assert max(sizes) <= 5


def test_chunks_change_only_with_the_version() -> None:
    """If chunks change, raise CHUNKER_VERSION too; otherwise documents keep the chunks of the old rules."""
    rng = random.Random("golden")
    text = "\n\n".join(markdown_blocks(rng) for _ in range(200)) + "\n\n" + "これは文です。" * 300
    digest = hashlib.blake2b("\0".join(contents(text)).encode(), digest_size=8).hexdigest()
    assert (CHUNKER_VERSION, digest) == ("5", "4d1d3b62754a3d89")
