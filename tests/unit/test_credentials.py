"""Credentials: their stored form, the keys that decrypt it, and errors that do not quote them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet

from rag_assets.pipeline.entries import Content, Entry
from resources.credentials import VARIABLE, decrypt, encrypt, rotate
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources.base import Source
from resources.sources.registered import RedactingSource

CREDENTIALS = {"username": "ada", "password": "hush/é"}


def set_keys(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(keys))


def test_any_key_decrypts_and_the_first_encrypts(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    set_keys(monkeypatch, old)
    stored = encrypt(CREDENTIALS)
    assert stored and "hush" not in stored and decrypt(stored) == CREDENTIALS
    set_keys(monkeypatch, new, old)
    assert decrypt(stored) == CREDENTIALS
    rotated = rotate(stored)
    set_keys(monkeypatch, new)
    assert decrypt(rotated) == CREDENTIALS
    with pytest.raises(ConfigError, match="rag sources credentials"):
        decrypt(stored)


def test_no_credentials_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert encrypt({}) is None and decrypt(None) == {}
    with pytest.raises(ConfigError, match="openssl rand"):
        encrypt(CREDENTIALS)


def test_a_key_made_by_openssl_works(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, "+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/8=")
    assert decrypt(encrypt(CREDENTIALS)) == CREDENTIALS


class QuotingSource(Source):
    """A source whose errors quote its credentials, as those of libraries do."""

    def list(self) -> Iterator[Entry]:
        yield Entry("a", "a", None, None)
        raise SourceUnavailable(f"no answer from https://ada:{quote('hush/é', safe='')}@x.test")

    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content | None:
        raise SourceError("refused: Authorization: hush/é")


def test_errors_do_not_quote_credentials() -> None:
    source = RedactingSource(QuotingSource(), list(CREDENTIALS.values()))
    with pytest.raises(SourceUnavailable) as caught:
        list(source.list())
    assert str(caught.value) == "no answer from https://***:***@x.test"
    with pytest.raises(SourceError) as denied:
        source.fetch(Entry("a", "a", None, None))
    assert str(denied.value) == "refused: Authorization: ***"
    # Logs contain tracebacks, and with them every error of the chain.
    assert denied.value.__suppress_context__
