"""The text of an API key: a typing error is found without a query, and its parts fit their columns."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.identity.api_key_format import new_key, parse_key, public_id

KEY = new_key()
LETTERS = string.ascii_letters + string.digits + "_-ä٣"


def test_a_key_is_read_as_it_was_made() -> None:
    assert parse_key(KEY.text) == KEY
    # The column of the prefix has 20 characters.
    assert len(KEY.prefix) == 20 and public_id(KEY.prefix) == KEY.id
    assert len(KEY.text) == 70
    assert KEY.secret not in repr(KEY)
    assert len({new_key().text for _ in range(100)}) == 100


@given(st.integers(0, len(KEY.text) - 1), st.sampled_from(LETTERS))
def test_a_wrong_letter_is_found(position: int, letter: str) -> None:
    changed = KEY.text[:position] + letter + KEY.text[position + 1 :]
    assert parse_key(changed) == (KEY if changed == KEY.text else None)


@given(st.integers(0, len(KEY.text) - 2))
def test_exchanged_and_missing_letters_are_found(position: int) -> None:
    a, b = KEY.text[position : position + 2]
    exchanged = KEY.text[:position] + b + a + KEY.text[position + 2 :]
    assert parse_key(exchanged) == (KEY if a == b else None)
    assert parse_key(KEY.text[:position] + KEY.text[position + 1 :]) is None
    assert parse_key(KEY.text[: position + 1]) is None


@given(st.text())
def test_other_texts_are_no_keys(text: str) -> None:
    assert parse_key(text) is None
    assert parse_key(KEY.text + text) == (None if text else KEY)
