"""What a source type is: it lists entries, and fetches one. What changed is decided by those who ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a source holds now.

    `key` names it within the source, for ever. `locator` is what `fetch` needs. `change_token` differs from the last
    one when the entry may have changed (a cheap sign: size and mtime, an ETag, a commit); the content's hash decides.
    """

    key: str
    locator: str
    change_token: str
    size: int | None


class Source(Protocol):
    def list(self) -> Iterator[Entry]:
        """Every entry, each key once. Raises SourceError when the listing is not complete."""
        ...

    def fetch(self, entry: Entry) -> bytes:
        """The entry's bytes. Raises SourceError with a reason a person understands."""
        ...
