"""The interface of a source type: it lists entries, and fetches one. Its callers decide what changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One item that a source contains now.

    `key` identifies it within the source and never changes. `locator` is the address for `fetch`. `change_token` is
    cheap (size and mtime, an ETag, a blob's id) and differs if the content may have changed; the content's hash
    decides. It is None if only a fetch can tell. `position` is the place in the listing of this sync, if any.
    """

    key: str
    locator: str
    change_token: str | None
    size: int | None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """The result of a fetch. `about` is the source's metadata of the document (see `envelope`).

    `change_token` is the token for the next fetch, for sources whose listing has none.
    """

    data: bytes
    change_token: str | None = None
    about: Mapping[str, Any] | None = None


class Source(ABC):
    """Methods raise SourceError with a reason that a person understands, SourceUnavailable where a retry may help."""

    #: Fetching one by one costs much more than fetching a batch that `prefetch` names.
    batched: bool = False

    @abstractmethod
    def list(self) -> Iterator[Entry]:
        """Yield every entry, each key once. Raises if the listing is incomplete: missing entries would be deleted."""

    def look(self) -> Iterator[Entry]:
        """Yield a listing for a sensor, within seconds. One entry unknown to `list` may stand for changes that only the
        sync has the time to list."""
        return self.list()

    @abstractmethod
    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content | None:
        """Return the content; called from several threads. None if the content of `previous_token` is still current."""

    def prefetch(self, entries: Sequence[Entry]) -> None:  # noqa: B027
        """Prepare for the next fetches: a batch of bounded size, in listing order, from one thread. Optional."""

    def close(self) -> None:  # noqa: B027
        """Release connections."""
