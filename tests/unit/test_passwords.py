"""Hashes of passwords: what is verified, what an attacker's hash or a full queue costs, and the rules of new ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher, extract_parameters
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.identity import passwords as module
from rag_assets.identity.password_rules import MAX_BYTES, is_too_long, password_problems
from rag_assets.identity.passwords import Passwords
from resources.errors import ConfigError, Overloaded

PASSWORD = "correct horse battery"
CHEAP = 1 / 16


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    cheap = Passwords(CHEAP)
    yield cheap
    cheap.close()


def test_only_the_password_is_verified(passwords: Passwords) -> None:
    hashed = passwords.hash(PASSWORD)
    assert passwords.verify(hashed, PASSWORD)
    # A Japanese keyboard writes it in full width.
    assert passwords.verify(hashed, "ｃｏｒｒｅｃｔ　horse battery")
    for wrong in ("", PASSWORD[:-1], PASSWORD.upper(), PASSWORD + "\0", "x" * 2000, "\ud800"):
        assert not passwords.verify(hashed, wrong)


def test_nobody_costs_as_much_as_a_user_and_has_no_password(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    monkeypatch.setattr(
        passwords, "_matches", lambda hashed, password: verified.append(hashed) or True
    )
    costly = [
        f"$argon2id$v=19${cost}$c29tZXNhbHQ$c29tZWRpZ2VzdA"
        for cost in ("m=9999999,t=1,p=1", "m=64,t=99,p=1", "m=999,t=1,p=99")
    ]
    # Even if the stand-in's hash did match.
    hashes = (None, "", "plain", *costly)
    assert not any(passwords.verify(hashed, PASSWORD) for hashed in hashes)
    parameters = extract_parameters(passwords.hash(PASSWORD))
    assert [extract_parameters(hashed) for hashed in verified] == [parameters] * 6


def test_a_hash_is_made_again_when_parameters_rise(passwords: Passwords) -> None:
    hashed = passwords.hash(PASSWORD)
    assert not passwords.needs_rehash(hashed)
    assert passwords.needs_rehash("plain")
    for memory, passes, again in ((CHEAP * 2, 1, True), (CHEAP, 2, True), (CHEAP / 2, 1, False)):
        other = Passwords(memory, passes)
        assert other.needs_rehash(hashed) == again
        assert other.verify(hashed, PASSWORD)
        other.close()
    assert passwords.needs_rehash(PasswordHasher(1, 8, 1, type=module.Type.I).hash(PASSWORD))


def test_a_full_queue_turns_away_and_a_permit_is_the_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords = Passwords(CHEAP, threads=1, waiting=1)
    hashed, going_on = passwords.hash(PASSWORD), threading.Event()
    monkeypatch.setattr(passwords, "_matches", lambda *_: going_on.wait(10))
    with ThreadPoolExecutor(2) as clients:
        requests = [clients.submit(passwords.verify, hashed, PASSWORD) for _ in range(2)]
        while passwords._permits.acquire(blocking=False):
            passwords._permits.release()
        # A client that gives up frees nothing: its thread still works.
        for _ in range(3):
            with pytest.raises(Overloaded) as error:
                passwords.verify(None, "x")
        assert error.value.retry_after == 1
        going_on.set()
        assert [request.result() for request in requests] == [True, True]
    assert passwords.verify(hashed, PASSWORD)
    passwords.close()


def test_new_passwords_follow_the_rules(passwords: Passwords) -> None:
    def problems(password: str) -> list[str]:
        return password_problems(password, email="ann.miller@example.com", username="Ann of the North")  # fmt: skip

    assert (
        problems(PASSWORD)
        == problems("пароль из слов")
        == problems("正しい馬の電池とホチキス")
        == []
    )
    for password, problem in {
        "short": "expected at least 12 characters, found 5",
        "aaaaaaaaaaaa": "expected at least 5 different characters",
        "ann of the north": "something else than the username",
        "ANN.MILLER@example.com": "something else than the username",
        "tabs\tare not typed": "no control characters",
        "é" * 513: "at most 1,024 bytes",
    }.items():
        (found,) = problems(password)
        assert problem in found and password not in found
    with pytest.raises(ConfigError, match="at least 12 characters"):
        passwords.new_hash("short", email="a@example.com", username="a")


@given(st.text(max_size=MAX_BYTES))
def test_the_bound_counts_bytes_before_and_after_normalization(text: str) -> None:
    from unicodedata import normalize

    sizes = [len(form.encode()) for form in (text, normalize("NFKC", text))]
    assert is_too_long(text) == (max(sizes) > MAX_BYTES)
