"""Stage source_documents: lists a source, fetches what changed, and keeps the bytes under the hash of their content."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from threading import Lock

from rag_assets.ingestion.stage import Outcome, Stage, columns_and_sample
from rag_assets.pipeline.entries import Entry
from rag_assets.pipeline.identity import content_hash
from rag_assets.pipeline.limits import DeletionLimits
from rag_assets.pipeline.plan import Plan
from resources.errors import (
    DeletionGuard,
    RagError,
    SourceError,
    SourceUnavailable,
    UnreadableFolder,
)
from resources.fault_injection import fault_point
from resources.files import FileStore, raw_name
from resources.postgres.connection import Connection
from resources.postgres.documents.erasures import key_hash, list_erased_key_hashes
from resources.postgres.idle_sources import listable_sources
from resources.postgres.registry.sources import (
    Fetched,
    Listed,
    SourceRow,
    count_entries,
    delete_gone_entries,
    listed_batch,
    record_fetched,
    recorded_entries,
    stage_listing,
)
from resources.postgres.registry.syncs import is_listed, mark_listed, mark_syncing
from resources.sources.base import Source
from resources.sources.envelope import wrap
from resources.sources.registered import open_registered
from resources.sources.registry import source_type

#: Fetches at the same time: reading waits for disks and networks, not for this process.
FETCHERS = 4
#: The server counts as dead after this many fetches without an answer, if no fetch that began after them had one.
SILENT = 8
#: Bytes. PostgreSQL cannot index a longer key.
MAX_KEY = 2000
#: In the metadata of a shard whose source another shard listed.
LISTED_BY = "listed"
#: Entries, about 5 MB, of a source that is compared in memory. Listing a larger one takes a writer's time anyway.
MAX_IDLE_ENTRIES = 10_000


def find_idle_sources(
    connection: Connection, sources: Mapping[str, SourceRow]
) -> dict[str, Outcome]:
    """Return the outcomes of sources whose listing is cheap and equals the recorded one.

    A source that differs is listed again by its writer, because a listing that is older than another sync's end must
    not undo that sync. For the same reason a run for one source lets the writer list it at once.
    """
    if len(sources) == 1:
        return {}
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
    mark_syncing(connection, [watched[key] for key in outcomes])
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


def sync_source_documents(stage: Stage, files: FileStore, limits: DeletionLimits | None) -> Outcome:
    """List the source and fetch what changed.

    Raises SourceError, and deletes nothing, if the listing is incomplete. Raises DeletionGuard if the deletions exceed
    `limits`; None: no limit.
    """
    mark_syncing(stage.connection, [stage.source.id])
    with closing(open_registered(stage.source)) as source:
        plan, batches = stage_listing(
            stage.connection, stage.source.id, listed_entries(stage.source.name, source)
        )
        listed = plan.kept
        if limits is not None:
            recorded = count_entries(stage.connection, stage.source.id)
            check_deletions(stage.source.name, limits, listed, plan.deleted, recorded)
        fetching = Fetching(stage, source, files, plan)
        for batch in range(batches):
            fetching.batch(listed_batch(stage.connection, batch))
            stage.progress(batch + 1, batches)
    if plan.deleted:
        fault_point("deletions-allowed")
        with stage.writer.transaction() as connection:
            plan.deleted = delete_gone_entries(connection, stage.source.id)
    mark_listed(stage.connection, stage.source.id)
    columns, sample = columns_and_sample(
        stage.connection,
        "source_entries",
        ("key", "size", "content_hash", "fetched_at"),
        "source_id = %(source)s",
        {"source": stage.source.id},
    )
    return Outcome(plan, listed, columns, sample)


def check_deletions(
    name: str, limits: DeletionLimits, listed: int, gone: int, recorded: int
) -> None:
    """Raises DeletionGuard if the listing is empty, or if it lost more documents than both limits allow."""
    emptied = recorded > 0 and listed == 0
    shrunk = gone > limits.documents and gone > limits.share * recorded
    if emptied or shrunk:
        raise DeletionGuard(
            f"The source lists {listed} documents; {gone} of the {recorded} recorded ones are gone. "
            f"Nothing was deleted or changed. If that is right: rag ingest {name} --accept-deletions"
        )


def listed_entries(name: str, source: Source) -> Iterator[Entry]:
    """Yield what the source lists. Raises SourceError for an incomplete listing, and for a key that is too long."""
    try:
        for entry in source.list():
            if len(entry.key.encode("utf-8", "replace")) > MAX_KEY:
                raise SourceError(f"A key is longer than {MAX_KEY} bytes: {entry.key[:100]!r}…")
            yield entry
    except UnreadableFolder as error:
        raise SourceError(
            f"{error}. Nothing was deleted or changed. Make the folder readable, or leave it out: "
            f"rag sources change {shlex.quote(name)} --exclude {shlex.quote(error.glob)}"
        ) from error


@dataclass
class Fetching:
    """The fetches of one sync, batch by batch.

    `silent`: fetches without an answer. `refuted`: how many of them a later fetch refutes, one that began after them
    and was answered. `dead`: nothing more is requested, even if an answer was still on its way.
    """

    stage: Stage
    source: Source
    files: FileStore
    plan: Plan
    silent: int = 0
    refuted: int = 0
    dead: bool = False
    _lock: Lock = field(default_factory=Lock)

    def batch(self, listed: list[Listed]) -> None:
        """Fetch and record a batch. Raises SourceUnavailable if the server died; answers that arrived are recorded."""
        self.source.prefetch([item.entry for item in listed])
        with ThreadPoolExecutor(FETCHERS) as pool:
            results = list(zip(listed, pool.map(self._fetch_if_alive, listed)))
        fetched = []
        for item, result in results:
            if isinstance(result, SourceUnavailable):
                if self.dead:
                    # The server failed, not this document; the next sync asks again.
                    continue
                result = Fetched(item.entry, None, item.entry.size, str(result))
            if result is not None:
                fetched.append(result)
                self._count(item, result)
        with self.stage.writer.transaction() as connection:
            record_fetched(connection, self.stage.source.id, fetched)
        if self.dead:
            reasons = [result for _, result in results if isinstance(result, SourceUnavailable)]
            raise SourceUnavailable(
                f"The source stopped answering: {reasons[-1]}. {self.plan.inserted} new and {self.plan.replaced} "
                "changed documents were fetched and are kept; nothing was deleted. "
                f"Continue from there with: rag ingest {self.stage.source.name}"
            )

    def _fetch_if_alive(self, item: Listed) -> Fetched | SourceUnavailable | None:
        """Return None if the server counts as dead."""
        if self.dead:
            return None
        silent_before = self.silent
        try:
            fetched = self._fetch(item)
        except SourceUnavailable as error:
            with self._lock:
                self.silent += 1
                self.dead = self.dead or self.silent - self.refuted >= SILENT
            return error
        with self._lock:
            self.refuted = max(self.refuted, silent_before)
        return fetched

    def _fetch(self, item: Listed) -> Fetched:
        entry = item.entry
        try:
            content = self.source.fetch(entry, item.previous_token)
        except SourceError as error:
            if error.transient:
                raise
            return Fetched(entry, None, entry.size, str(error))
        fault_point("entry-read")
        if content is None:
            return Fetched(
                replace(entry, change_token=item.previous_token), item.content_hash, item.size, None
            )
        entry = replace(entry, change_token=entry.change_token or content.change_token)
        data = wrap(content.data, content.about)
        digest = content_hash(data)
        name = raw_name(digest)
        if self.files.size(name) != len(data):
            # Not synced to disk: each read verifies the hash, and a damaged file is fetched again.
            self.files.write(name, data, durable=False)
        return Fetched(entry, digest, len(data), None)

    def _count(self, item: Listed, fetched: Fetched) -> None:
        self.plan.kept -= 1
        if fetched.error is not None:
            self.plan.failed += 1
        elif item.is_new:
            self.plan.inserted += 1
        elif fetched.content_hash != item.content_hash:
            self.plan.replaced += 1
        else:
            # Touched, not changed.
            self.plan.kept += 1
