"""The lengths of a document's fields, and the sentences that record what was cut of longer ones.

The lengths are those of the columns of table `documents` and of the fields in Milvus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TITLE_CHARS, AUTHOR_CHARS, CATEGORY_CHARS, TAG_CHARS = 1000, 255, 100, 255
#: The tags that a search can filter by, and the characters of each (see `rag_filter_tags` in PostgreSQL).
FILTER_TAGS, FILTER_TAG_CHARS = 64, 100


def cut_fields(author: str | None, category: str | None, tags: Sequence[str] | None) -> list[str]:
    """Return a sentence for each field that is too long to be kept or to be compared whole."""
    limits: Mapping[str, tuple[str | None, int]] = {
        "author": (author, AUTHOR_CHARS),
        "category": (category, CATEGORY_CHARS),
    }
    notes = [
        f"{len(value or '') - limit:,} characters of the {name}, which keeps its first {limit}"
        for name, (value, limit) in limits.items()
        if len(value or "") > limit
    ]
    tags = tags or []
    if len(tags) > FILTER_TAGS:
        notes.append(
            f"{len(tags) - FILTER_TAGS:,} of {len(tags):,} tags from filters, which compare the first {FILTER_TAGS}"
        )
    long = sum(len(tag) > FILTER_TAG_CHARS for tag in tags[:FILTER_TAGS])
    if long:
        count = "1 tag" if long == 1 else f"{long:,} tags"
        notes.append(
            f"the ends of {count} from filters, which compare {FILTER_TAG_CHARS} characters of a tag"
        )
    return notes
