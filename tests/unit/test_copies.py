"""Copies: equal texts that a stage works on once."""

from __future__ import annotations

import pytest

from rag_assets.pipeline.copies import once_per_copy


def test_equal_texts_are_worked_on_once_unless_they_are_large() -> None:
    worked: list[tuple[str, str]] = []

    def work(text: str, language: str) -> str:
        worked.append((text, language))
        return text.upper()

    once = once_per_copy(work, 3)
    assert [once(*a) for a in [("ab", "en"), ("ab", "en"), ("ab", "de")]] == ["AB"] * 3
    assert [once("abcd", "en"), once("abcd", "en")] == ["ABCD"] * 2
    assert worked == [("ab", "en"), ("ab", "de"), ("abcd", "en"), ("abcd", "en")]


def test_a_failure_is_not_kept() -> None:
    def work(text: str) -> str:
        raise ValueError(text)

    once = once_per_copy(work)
    for _ in range(2):
        with pytest.raises(ValueError, match="a text"):
            once("a text")
