"""The source of a row of table `sources`, opened with its credentials, which no error message quotes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

from rag_assets.pipeline.entries import Content, Entry
from resources.credentials import decrypt
from resources.errors import ConfigError, RagError, UnreadablePart
from resources.postgres.registry.sources import SourceRow
from resources.sources.base import Source
from resources.sources.registry import open_source


def open_registered(row: SourceRow) -> Source:
    """Open the source. Raises ConfigError if its settings are invalid or its credentials cannot be decrypted."""
    try:
        credentials = decrypt(row.credentials_encrypted)
    except ConfigError as error:
        raise ConfigError(f"Source {row.name}: {error}") from None
    source = open_source(row.source_type, row.config, credentials)
    return RedactingSource(source, list(credentials.values())) if credentials else source


class RedactingSource(Source):
    """A source whose errors do not quote its credentials: libraries quote addresses and headers in theirs."""

    def __init__(self, source: Source, secrets: Sequence[str]) -> None:
        self._source = source
        self.batched = source.batched
        forms = {form for s in secrets if s for form in (s, quote(s, safe=""), quote_plus(s))}
        # The longest first: a secret may be part of another one.
        self._secrets = sorted(forms, key=len, reverse=True)

    @property
    def incomplete(self) -> str:
        return self._redacted(self._source.incomplete)

    def list(self) -> Iterator[Entry]:
        with self._redacted_errors():
            yield from self._source.list()

    def list_quickly(self) -> Iterator[Entry]:
        with self._redacted_errors():
            yield from self._source.list_quickly()

    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content | None:
        with self._redacted_errors():
            return self._source.fetch(entry, previous_token)

    def prefetch(self, entries: Sequence[Entry]) -> None:
        with self._redacted_errors():
            self._source.prefetch(entries)

    def close(self) -> None:
        self._source.close()

    @contextmanager
    def _redacted_errors(self) -> Iterator[None]:
        try:
            yield
            return
        except RagError as error:
            message = self._redacted(str(error))
            if isinstance(error, UnreadablePart):
                redacted = UnreadablePart(message, self._redacted(error.glob), error.remedy)
            else:
                redacted = type(error)(message)
        raise redacted from None

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text
