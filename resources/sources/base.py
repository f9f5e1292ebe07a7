"""What a source type is: it lists entries, and fetches one. What changed is decided by those who ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a source holds now.

    `key` names it within the source, for ever. `locator` is what `fetch` needs. `change_token` differs from the last
    one when the entry may have changed (a cheap sign: size and mtime, an ETag, a blob's id); the content's hash
    decides. None: only fetching tells. `position` is its place in the listing of this sync, where there is one.
    """

    key: str
    locator: str
    change_token: str | None
    size: int | None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What a fetch brought. `about`: what the source says of the document beside its text (see `envelope`).

    `change_token` is the sign to compare with next time, where the listing has none.
    """

    data: bytes
    change_token: str | None = None
    about: Mapping[str, Any] | None = None


class Source(ABC):
    """Errors: SourceError with a reason that a person understands, SourceUnavailable where a retry may help."""

    #: Fetching one by one costs much more than fetching what `prefetch` names.
    batched: bool = False

    @abstractmethod
    def list(self) -> Iterator[Entry]:
        """Every entry, each key once. Raises when the listing is not complete: half a listing would delete."""

    def look(self) -> Iterator[Entry]:
        """The listing for a sensor, which has seconds: what would take longer than that is left to the sync, and an
        entry that `list` does not have stands for it."""
        return self.list()

    @abstractmethod
    def fetch(self, entry: Entry, known: str | None = None) -> Content | None:
        """The entry's content; called from several threads. None: what was fetched under the token `known` is right."""

    def prefetch(self, entries: Sequence[Entry]) -> None:  # noqa: B027  (most sources have nothing to do)
        """Told once, by one thread, which entries are fetched next: a batch of bounded size, in listing order."""

    def close(self) -> None:  # noqa: B027
        """Gives connections back."""
