"""Batches of texts for a model: every text once, within the limits of tokens and padding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resources.embedders.batches import batches


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 200), st.integers(0, 60))
def test_batches_contain_every_text_once_and_respect_their_limits(
    lengths: list[int], bound: int, padding: int
) -> None:
    result = list(batches(lengths, bound, padding))
    assert sorted(i for batch in result for i in batch) == [i for i, n in enumerate(lengths) if n]

    def fits(batch: list[int]) -> bool:
        longest = max(lengths[i] for i in batch)
        padded = sum(longest - lengths[i] for i in batch)
        return len(batch) * longest <= bound and padded <= padding

    for batch, next_batch in zip(result, [*result[1:], None]):
        assert len(batch) == 1 or fits(batch)
        # Batches are full: the next text would not fit.
        assert next_batch is None or not fits([*batch, next_batch[0]])
    assert [lengths[i] for batch in result for i in batch] == sorted(filter(None, lengths))[::-1]
