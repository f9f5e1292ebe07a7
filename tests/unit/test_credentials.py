"""Credentials: what is stored, which keys open it, and that no error repeats them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet

from resources.credentials import VARIABLE, decrypt, encrypt, rotate
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources.base import Content, Entry, Source
from resources.sources.registered import Discreet

GIVEN = {"username": "ada", "password": "hush/é"}


def keys(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(found))


def test_any_of_the_keys_opens_and_the_first_encrypts(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    keys(monkeypatch, old)
    stored = encrypt(GIVEN)
    assert stored and "hush" not in stored and decrypt(stored) == GIVEN
    keys(monkeypatch, new, old)
    assert decrypt(stored) == GIVEN
    rotated = rotate(stored)
    keys(monkeypatch, new)
    assert decrypt(rotated) == GIVEN
    with pytest.raises(ConfigError, match="rag sources credentials"):
        decrypt(stored)


def test_nothing_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert encrypt({}) is None and decrypt(None) == {}
    with pytest.raises(ConfigError, match="openssl rand"):
        encrypt(GIVEN)


def test_a_key_of_openssl_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch, "+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/8=")
    assert decrypt(encrypt(GIVEN)) == GIVEN


class Talkative(Source):
    """Quotes what it was given, as libraries do."""

    def list(self) -> Iterator[Entry]:
        yield Entry("a", "a", None, None)
        raise SourceUnavailable(f"no answer from https://ada:{quote('hush/é', safe='')}@x.test")

    def fetch(self, entry: Entry, known: str | None = None) -> Content | None:
        raise SourceError("refused: Authorization: hush/é")


def test_errors_do_not_repeat_credentials() -> None:
    source = Discreet(Talkative(), list(GIVEN.values()))
    with pytest.raises(SourceUnavailable) as caught:
        list(source.list())
    assert str(caught.value) == "no answer from https://***:***@x.test"
    with pytest.raises(SourceError) as refused:
        source.fetch(Entry("a", "a", None, None))
    assert str(refused.value) == "refused: Authorization: ***"
    assert refused.value.__suppress_context__  # tracebacks end in logs
