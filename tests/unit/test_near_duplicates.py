"""Shingles and signatures: equal and different texts, and the accuracy of 128 numbers."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.near_duplicates import (
    MAX_CHARS,
    MIN_SHINGLES,
    PERMUTATIONS,
    SHINGLE,
    shingles,
    signature,
)
from tests.support.near_texts import edited, text


def similarity(first: str, second: str) -> float:
    a, b = signature(first), signature(second)
    assert a is not None
    assert b is not None
    return sum(x == y for x, y in zip(a, b)) / PERMUTATIONS


def jaccard(first: str, second: str) -> float:
    a, b = set(shingles(first).tolist()), set(shingles(second).tolist())
    return len(a & b) / len(a | b)


@given(st.text(max_size=60))
def test_shingles_are_the_runs_of_six_bytes_of_any_text(sample: str) -> None:
    data = " ".join(unicodedata.normalize("NFKC", sample).casefold().split()).encode()
    runs = [data[n : n + SHINGLE] for n in range(len(data) - SHINGLE + 1)]
    assert [int.from_bytes(run, "little") for run in runs] == shingles(sample).tolist()


def test_case_width_and_white_space_do_not_change_the_shingles() -> None:
    same = "The observatory  opens\n\nat NINE; ﾃﾞｰﾀ １２"
    assert shingles(same).tolist() == shingles("the observatory opens at nine; データ 12").tolist()
    assert shingles(same).tolist() != shingles("the observatory opens at ten; データ 12").tolist()


def test_a_short_text_has_no_signature_and_only_the_beginning_of_a_long_one_is_signed() -> None:
    assert signature("") is None
    assert signature("a" * (MIN_SHINGLES + SHINGLE - 2)) is None
    assert signature("a" * (MIN_SHINGLES + SHINGLE - 1)) is not None
    long = text("ja", "long", 2000) * 200
    assert len(long) > MAX_CHARS
    assert signature(long) == signature(long[:MAX_CHARS])


def test_a_signature_is_the_same_in_every_process_and_fits_a_smallint() -> None:
    """Stored signatures are compared with new ones: another library or machine must compute equal ones."""
    rows = signature(text("en", "stable", 200))
    assert rows is not None
    assert len(rows) == PERMUTATIONS
    assert rows[:4] == [28075, -30954, -15305, 20194]
    assert all(-(2**15) <= row < 2**15 for row in rows)


@pytest.mark.parametrize("language", ["en", "ja", "zh", "ko", "fa"])
def test_edited_texts_are_similar_and_different_texts_are_not(language: str) -> None:
    rng = random.Random(language)
    near = [
        similarity(original, edited(original, 0.05, rng))
        for original in (text(language, f"{n}", 300) for n in range(15))
    ]
    far = [
        similarity(text(language, f"{n}", 300), text(language, f"other {n}", 300))
        for n in range(15)
    ]
    assert np.mean(np.array(near) >= 0.8) >= 0.8, sorted(near)
    assert max(far) < 0.6


def test_the_estimate_is_unbiased() -> None:
    rng = random.Random(1)
    errors = []
    for n in range(60):
        original = text("en", f"{n}", 250)
        copy = edited(original, rng.choice([0.02, 0.1, 0.3]), rng)
        errors.append(similarity(original, copy) - jaccard(original, copy))
    assert abs(np.mean(errors)) < 0.015
    assert np.sqrt(np.mean(np.square(errors))) < 0.05
