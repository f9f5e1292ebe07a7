"""The source of a row of table `sources`: opened with its credentials, which no error message repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

from resources.credentials import decrypt
from resources.errors import RagError
from resources.postgres.sources import SourceRow
from resources.sources.base import Content, Entry, Source
from resources.sources.registry import open_source


def open_registered(row: SourceRow) -> Source:
    """Raises ConfigError when the configuration has problems, or the credentials cannot be decrypted."""
    credentials = decrypt(row.credentials_encrypted)
    source = open_source(row.source_type, row.config, credentials)
    return Discreet(source, list(credentials.values())) if credentials else source


class Discreet(Source):
    """A source whose errors do not quote its credentials: libraries put addresses and headers into theirs."""

    def __init__(self, source: Source, secrets: Sequence[str]) -> None:
        self._source = source
        self.batched = source.batched
        forms = {form for s in secrets if s for form in (s, quote(s, safe=""), quote_plus(s))}
        self._secrets = sorted(forms, key=len, reverse=True)

    def list(self) -> Iterator[Entry]:
        with self._discreetly():
            yield from self._source.list()

    def look(self) -> Iterator[Entry]:
        with self._discreetly():
            yield from self._source.look()

    def fetch(self, entry: Entry, known: str | None = None) -> Content | None:
        with self._discreetly():
            return self._source.fetch(entry, known)

    def prefetch(self, entries: Sequence[Entry]) -> None:
        with self._discreetly():
            self._source.prefetch(entries)

    def close(self) -> None:
        self._source.close()

    @contextmanager
    def _discreetly(self) -> Iterator[None]:
        try:
            yield
            return
        except RagError as error:
            said = str(error)
            for secret in self._secrets:
                said = said.replace(secret, "***")
            problem = type(error)(said)
        raise problem from None
