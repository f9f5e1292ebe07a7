"""An item of a source as its listing shows it, and the result of fetching it."""

from __future__ import annotations

from collections.abc import Mapping
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

    `change_token` is the token for the next fetch, for sources whose listing has none. `unfinished`: why these bytes
    may be a part of the content, such as a file that is being written; empty if they are whole.
    """

    data: bytes
    change_token: str | None = None
    about: Mapping[str, Any] | None = None
    unfinished: str = ""
