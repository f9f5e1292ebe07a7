"""When a sync waits for a person: much less is listed than before, or many documents turned into one content.

A suspicious listing may be that of another folder or database, so nothing of it is taken. Suspicious contents are known
one by one: only these documents wait.
"""

from __future__ import annotations

import re

from rag_assets.ingestion.sameness import is_unrelated, signature
from rag_assets.pipeline.limits import DeletionLimits
from resources.errors import ContentGuard, DeletionGuard
from resources.files import FileStore, raw_name
from resources.postgres.connection import Connection
from resources.postgres.registry.replacements import (
    ContentGroup,
    Replaced,
    content_groups,
    sample_replaced,
)
from resources.sources.envelope import unwrap

#: Documents whose former contents are compared, out of those that turned into one content.
SAMPLE = 50
#: Characters of a content in a message.
_EXCERPT = 120


def check_deletions(
    name: str, limits: DeletionLimits, listed: int, gone: int, recorded: int
) -> None:
    """Raises DeletionGuard if the listing is empty, or if it lost more documents than both limits allow."""
    emptied = recorded > 0 and listed == 0
    if emptied or _exceeds(limits, gone, recorded):
        raise DeletionGuard(
            f"The source lists {listed} documents; {gone} of the {recorded} recorded ones are gone. "
            f"Nothing was deleted or changed. If that is right: rag ingest {name} --accept-deletions"
        )


def _exceeds(limits: DeletionLimits, count: float, recorded: int) -> bool:
    return count > limits.documents and count > limits.share * recorded


def collapsed_contents(
    connection: Connection, files: FileStore, limits: DeletionLimits, recorded: int
) -> list[ContentGroup]:
    """Return the contents into which more different documents turned than both limits allow."""
    groups = content_groups(connection, max(limits.documents, limits.share * recorded))
    return [
        group
        for group in groups
        if _exceeds(limits, _lost_contents(connection, files, limits, recorded, group), recorded)
    ]


def _lost_contents(
    connection: Connection,
    files: FileStore,
    limits: DeletionLimits,
    recorded: int,
    group: ContentGroup,
) -> float:
    """Estimate how many different contents the group had before, as far as its documents lost them.

    If the new ones are not equal but differ in numbers, then documents that differed only in numbers before lost
    nothing, unless they are about something else now.
    """
    sample = sample_replaced(connection, group.gist, SAMPLE)
    equal = _exceeds(limits, group.equal, recorded)
    former: set[str] = set()
    unrelated = 0
    for item in sample:
        old = _body(files, item.old_hash)
        if old is None:
            former.add(item.key)
            unrelated += 1
            continue
        body, gist = signature(old, item.key)
        former.add(body if equal else gist)
        unrelated += not equal and gist != group.gist and _is_unrelated(files, old, item)
    lost = len(former)
    if not equal and lost <= len(sample) // 2:
        lost = max(lost, unrelated)
    # All of them were one content before, and are one content now.
    return 0 if lost <= 1 else lost * group.documents / len(sample)


def _is_unrelated(files: FileStore, old: bytes, item: Replaced) -> bool:
    new = _body(files, item.content_hash)
    return new is not None and is_unrelated(old, new)


def _body(files: FileStore, digest: str | None) -> bytes | None:
    try:
        return unwrap(files.read(raw_name(digest)))[1] if digest else None
    except (FileNotFoundError, ValueError):
        return None


def content_guard(
    name: str, groups: list[ContentGroup], recorded: int, files: FileStore
) -> ContentGuard:
    """Return the error about the documents that keep their old contents."""
    group, kept = groups[0], sum(group.documents for group in groups)
    others = f", and {len(groups) - 1} more such contents" if len(groups) > 1 else ""
    excerpt = _excerpt(_body(files, group.content_hash))
    return ContentGuard(
        f"{kept} of the {recorded} recorded documents turned into one and the same content: {excerpt} (for example "
        f"{group.key}){others}. They keep their former texts; all other changes were taken up. "
        "Look for an error, a login or a maintenance page in the source. If the new content is right: "
        f"rag ingest {name} --accept-replacements"
    )


def _excerpt(body: bytes | None) -> str:
    text = (body or b"")[:20_000].decode("utf-8", "replace")
    text = re.sub(
        r"<(?:script|style)\b.{0,5000}?</(?:script|style)>|<[^<>]{0,1000}>",
        " ",
        text,
        flags=re.S | re.I,
    )
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return repr(text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…")
