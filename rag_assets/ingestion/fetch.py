"""Stage source_documents: lists a source, fetches what changed, and keeps the bytes under the hash of their content."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rag_assets.ingestion.fetching import Fetching
from rag_assets.ingestion.guard import check_deletions, collapsed_contents, content_guard
from rag_assets.ingestion.stage import Outcome, Stage, columns_and_sample
from rag_assets.pipeline.entries import Entry
from rag_assets.pipeline.limits import DeletionLimits
from rag_assets.pipeline.plan import Plan
from resources.errors import (
    ContentGuard,
    RagError,
    SourceError,
    SourceUnavailable,
    UnreadablePart,
)
from resources.fault_injection import fault_point
from resources.files import FileStore
from resources.postgres.connection import Connection
from resources.postgres.documents.erasures import key_hash, list_erased_key_hashes
from resources.postgres.identity.audit_chain import append_operation
from resources.postgres.idle_sources import listable_sources
from resources.postgres.registry.entries import (
    count_entries,
    delete_gone_entries,
    listed_batch,
    recorded_entries,
    stage_listing,
)
from resources.postgres.registry.left_documents import forget_left, hold_back, record_left
from resources.postgres.registry.replacements import (
    ContentGroup,
    record_replacements,
    start_replacements,
)
from resources.postgres.registry.sources import SourceRow
from resources.postgres.registry.syncs import is_listed, mark_listed, mark_syncing
from resources.sources.base import Source
from resources.sources.registered import open_registered
from resources.sources.registry import source_type

#: Bytes. PostgreSQL cannot index a longer key.
MAX_KEY = 2000
#: In the metadata of a shard whose source another shard listed.
LISTED_BY = "listed"
#: Entries, about 5 MB, of a source that is compared in memory. Listing a larger one takes a writer's time anyway.
MAX_IDLE_ENTRIES = 10_000
#: In the metadata: documents that wait for the next sync, and why entries that are not listed were not deleted.
LEFT, LEFT_DOCUMENTS, NOT_DELETED = "left_for_next_sync", "left_documents", "not_deleted"
#: In the metadata: how many documents keep their contents until a person decides.
HELD_BACK = "held_back"
#: Documents that are named among those left.
MAX_LEFT = 20


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What a person asked of a sync. `limits`: when deletions wait for a person; None: they are accepted.

    `content_limits`: the same for documents that turn into one content. `reread`: fetch every document, whatever its
    size, times or version.
    """

    limits: DeletionLimits | None = None
    content_limits: DeletionLimits | None = None
    reread: bool = False


def find_idle_sources(
    connection: Connection, sources: Mapping[str, SourceRow]
) -> dict[str, Outcome]:
    """Return the outcomes of the sources without changes, whose syncs begin here.

    A source that differs is listed again by its writer, because a listing that is older than another sync's end must
    not undo that sync. For the same reason a run for one source lets the writer list it at once.
    """
    if len(sources) == 1:
        return {}
    outcomes = unchanged_sources(connection, sources)
    idle = [sources[key].id for key in outcomes]
    mark_syncing(connection, idle)
    forget_left(connection, idle)
    return outcomes


def unchanged_sources(
    connection: Connection, sources: Mapping[str, SourceRow]
) -> dict[str, Outcome]:
    """Return the outcomes of sources whose listing is cheap and equals the recorded one. Writes nothing."""
    watched = {k: s.id for k, s in sources.items() if source_type(s.source_type).watched}
    outcomes: dict[str, Outcome] = {}
    for key in listable_sources(connection, watched, most=MAX_IDLE_ENTRIES):
        try:
            count = _count_if_unchanged(connection, sources[key])
        except RagError:
            # The source's writer meets the same error and reports it.
            continue
        if count is not None:
            outcomes[key] = Outcome(Plan(kept=count), count)
    return outcomes


def _count_if_unchanged(connection: Connection, source: SourceRow) -> int | None:
    """Return how many documents the source lists, or None if the listing differs from the recorded entries."""
    recorded = recorded_entries(connection, source.id)
    erased = list_erased_key_hashes(connection, source.name)
    count = len(recorded)
    with closing(open_registered(source)) as opened:
        for entry in opened.list():
            if erased and key_hash(entry.key) in erased:
                continue
            if recorded.pop(entry.key, None) != (entry.locator, entry.change_token):
                return None
    return None if recorded else count


def listed_by_another_shard(stage: Stage) -> Outcome | None:
    """Return the outcome of a shard whose source another shard of the same sync listed and fetched, else None."""
    if stage.shard is None or not is_listed(stage.connection, stage.source.id):
        return None
    count = count_entries(stage.connection, stage.source.id)
    return Outcome(Plan(kept=count), count, metadata={LISTED_BY: "by another shard of this sync"})


def sync_source_documents(stage: Stage, files: FileStore, options: SyncOptions) -> Outcome:
    """List the source and fetch what changed.

    Raises SourceError, and deletes nothing, if the listing is incomplete. Raises DeletionGuard if the deletions exceed
    the limits. If the documents that turned into one content do, these are held back, and the outcome's error is a
    ContentGuard.
    """
    mark_syncing(stage.connection, [stage.source.id])
    with closing(open_registered(stage.source)) as source:
        plan, batches = stage_listing(
            stage.connection,
            stage.source.id,
            listed_entries(stage.source.name, source),
            reread=options.reread,
        )
        listed, incomplete = plan.kept, source.incomplete
        recorded = count_entries(stage.connection, stage.source.id)
        not_deleted = plan.deleted if incomplete else 0
        plan.deleted -= not_deleted
        if options.limits is not None and not incomplete:
            check_deletions(stage.source.name, options.limits, listed, plan.deleted, recorded)
        fetching = Fetching(stage, source, files, plan, options.content_limits is not None)
        guard = _fetch_batches(stage, fetching, batches, options.content_limits, recorded)
    if plan.deleted:
        fault_point("deletions-allowed")
        with stage.writer.transaction() as connection:
            plan.deleted = delete_gone_entries(connection, stage.source.id)
            append_operation(
                connection,
                "source.delete_documents",
                f"source:{stage.source.id}",
                name=stage.source.name,
                documents=plan.deleted,
                without_limits=options.limits is None,
            )
    mark_listed(stage.connection, stage.source.id)
    columns, sample = columns_and_sample(
        stage.connection,
        "source_entries",
        ("key", "size", "content_hash", "fetched_at"),
        "source_id = %(source)s",
        {"source": stage.source.id},
    )
    metadata: dict[str, Any] = {LEFT: len(fetching.left)} if fetching.left else {}
    if fetching.held_back:
        metadata[HELD_BACK] = fetching.held_back
    if not_deleted:
        metadata[NOT_DELETED] = (
            f"{not_deleted} documents that are not listed are kept: {incomplete}"
        )
    left = [{"document": x.key, "reason": x.reason} for x in fetching.left[:MAX_LEFT]]
    tables = {LEFT_DOCUMENTS: left} if left else {}
    return Outcome(plan, listed, columns, sample, metadata, tables, guard)


def _fetch_batches(
    stage: Stage,
    fetching: Fetching,
    batches: int,
    limits: DeletionLimits | None,
    recorded: int,
) -> ContentGuard | None:
    """Fetch all batches; what was fetched before an error is recorded. Returns the error about held-back documents."""
    if not batches:
        forget_left(stage.connection, [stage.source.id])
        return None
    start_replacements(stage.connection)
    try:
        for batch in range(batches):
            fetching.batch(listed_batch(stage.connection, batch))
            stage.progress(batch + 1, batches)
    except SourceUnavailable:
        _record_replacements(stage, fetching, limits, recorded)
        raise
    return _record_replacements(stage, fetching, limits, recorded)


def _record_replacements(
    stage: Stage, fetching: Fetching, limits: DeletionLimits | None, recorded: int
) -> ContentGuard | None:
    """Record the documents that waited because others have their new content, and those that are left as they were.

    Returns the error about contents that too many documents have: these keep their former ones.
    """
    groups: list[ContentGroup] = []
    if limits is not None:
        groups = collapsed_contents(stage.connection, fetching.files, limits, recorded)
    name, source, gists = stage.source.name, stage.source.id, [group.gist for group in groups]
    guard = content_guard(name, groups, recorded, fetching.files) if groups else None
    with stage.writer.transaction() as connection:
        forget_left(connection, [source])
        record_left(connection, source, [(item.key, item.reason) for item in fetching.left])
        if guard:
            hold_back(connection, source, gists, str(guard))
        fetching.hold_back(record_replacements(connection, source, gists))
    return guard


def listed_entries(name: str, source: Source) -> Iterator[Entry]:
    """Yield what the source lists. Raises SourceError for an incomplete listing, and for a key that is too long."""
    try:
        for entry in source.list():
            if len(entry.key.encode("utf-8", "replace")) > MAX_KEY:
                raise SourceError(f"A key is longer than {MAX_KEY} bytes: {entry.key[:100]!r}…")
            yield entry
    except UnreadablePart as error:
        raise SourceError(
            f"{error}. Nothing was deleted or changed. {error.remedy}, or leave it out, which deletes its "
            f"documents: "
            f"rag sources change {shlex.quote(name)} --exclude {shlex.quote(error.glob)}"
        ) from error
