"""Findings about a source itself: its files still are what was read, also where their signs did not change."""

from __future__ import annotations

import shlex
from contextlib import closing

from rag_assets.consistency.finding import Finding, conclude, not_applicable
from rag_assets.pipeline.entries import Entry
from rag_assets.pipeline.identity import content_hash
from resources.errors import SourceError
from resources.postgres.connection import Connection
from resources.postgres.registry.entries import stage_listing
from resources.postgres.registry.sources import SourceRow
from resources.postgres.registry.unchanged_entries import (
    UnchangedEntry,
    still_recorded,
    unchanged_entries,
)
from resources.sources.base import Source
from resources.sources.envelope import wrap
from resources.sources.registered import open_registered

FILES_FACT = (
    "Files of a folder have the content that was read, also if size, times and inode are equal."
)
#: Bytes that a check reads at most; of a larger folder, other files each time.
READ_BYTES = 2 * 1024**3


def files_are_as_read(connection: Connection, source: SourceRow) -> Finding:
    """Read the files that a sync does not read again, since their signs are equal, and compare them."""
    reread = f"rag ingest {shlex.quote(source.name)} --reread"
    if source.source_type != "folder":
        return not_applicable(
            f"{source.name} is no folder; other sources are read only by a sync, all of it by: {reread}"
        )
    read = total = size = 0
    differing: list[UnchangedEntry] = []
    try:
        with closing(open_registered(source)) as opened:
            stage_listing(connection, source.id, opened.list())
            for entry in unchanged_entries(connection, source.id):
                total += 1
                if size > READ_BYTES:
                    continue
                read, size = read + 1, size + entry.size
                if _differs(opened, entry):
                    differing.append(entry)
    except SourceError as error:
        return not_applicable(f"{source.name} cannot be listed now: {error}")
    keys = [entry.key for entry in still_recorded(connection, source.id, differing)]
    looked_at = f"{read} of {total} files with the recorded size, times and inode"
    if not keys:
        sentence = f"{source.name}: no exception among {looked_at}. {FILES_FACT}"
        return conclude("passed", sentence, source=source.name, metadata={"files_read": read})
    return conclude(
        "failed",
        f"{source.name}: {len(keys)} of {looked_at} have another content than was read; the first: {keys[0]}.",
        source=source.name,
        remedy="person",
        command=reread,
        key=keys,
        columns=("document",),
        rows=[(key,) for key in keys],
        metadata={"files_read": read},
    )


def _differs(source: Source, entry: UnchangedEntry) -> bool:
    try:
        content = source.fetch(Entry(entry.key, entry.locator, entry.change_token, entry.size))
    except SourceError:
        # The next sync reports it.
        return False
    if content is None or content.unfinished:
        return False
    return content_hash(wrap(content.data, content.about)) != entry.content_hash
