"""Names: what is shown is what is written."""

from __future__ import annotations

import pytest

from rag_assets.pipeline.plain_text import is_plain_name


@pytest.mark.parametrize("name", ["ann", "Ann Lee", "田中", "می‌خواهم", "ﾀﾅｶ"])
def test_letters_of_every_script_make_a_name(name: str) -> None:
    assert is_plain_name(name, 100)


@pytest.mark.parametrize(
    "name",
    ["", " ann", "a  b", "a\nb", "a\u200bb", "a\u202eb", "\u2066ann", "ann\u200f", "a" * 101],
)
def test_a_name_that_looks_like_another_one_is_not_plain(name: str) -> None:
    assert not is_plain_name(name, 100)
