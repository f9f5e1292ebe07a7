"""The interface of a source type: it lists entries, and fetches one. Its callers decide what changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from rag_assets.pipeline.entries import Content, Entry


class Source(ABC):
    """Methods raise SourceError with a reason that a person understands, SourceUnavailable where a retry may help."""

    #: Fetching one by one costs much more than fetching a batch that `prefetch` names.
    batched: bool = False

    @abstractmethod
    def list(self) -> Iterator[Entry]:
        """Yield every entry, each key once. Raises if the listing is incomplete: missing entries would be deleted."""

    @property
    def incomplete(self) -> str:
        """Why the last listing may lack entries that exist, so that missing ones are kept; empty if it is complete."""
        return ""

    def list_quickly(self) -> Iterator[Entry]:
        """Yield a listing for a sensor, within seconds.

        An entry that `list` lacks may stand for changes that only a sync has the time to list.
        """
        return self.list()

    @abstractmethod
    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content | None:
        """Return the content; called from several threads. None if the content of `previous_token` is still current."""

    def prefetch(self, entries: Sequence[Entry]) -> None:  # noqa: B027
        """Prepare for the next fetches: a batch of bounded size, in listing order, from one thread. Optional."""

    def close(self) -> None:  # noqa: B027
        """Release connections."""
