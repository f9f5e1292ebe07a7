"""Asset source_documents: what a source holds now, as raw bytes under their content's hash."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from threading import Lock

import dagster as dg

from rag_assets.assets.run_stage import COMMON, Outcome, Stage, columns_and_sample, run_stage
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.cron import freshness_policy
from rag_assets.pipeline.identity import content_hash
from rag_assets.pipeline.plan import Plan
from resources.dagster_resources import PostgresResource, StorageResource
from resources.errors import DeletionGuard, RagError, SourceError, SourceUnavailable
from resources.fault_injection import fault_point
from resources.files import FileStore, raw_name
from resources.postgres.connection import Connection
from resources.postgres.documents.erasures import forgotten_hashes, key_hash
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
from resources.sources.base import Entry, Source
from resources.sources.envelope import wrap
from resources.sources.registered import open_registered
from resources.sources.registry import source_type

#: Fetches at a time: reading waits for disks and networks, not for this process.
FETCHERS = 4
#: After so many fetches without an answer, and none with one that began after them, the server is taken for dead.
SILENT = 8
#: Bytes. PostgreSQL cannot index a longer one.
MAX_KEY = 2000
#: Says in the metadata of a shard that it did not list the source.
BY_ANOTHER = "listed"
#: Entries of a source that is compared in memory, some 5 MB of them. That of a larger one takes a writer's time anyway.
LISTED = 10_000


class SyncConfig(dg.Config):
    """`accept_deletions`: delete what the source no longer lists, however much it is."""

    accept_deletions: bool = False


class GuardResource(dg.ConfigurableResource):
    """When a sync stops instead of deleting: see `check_deletions`."""

    share: float = 0.2
    documents: int = 20


@dg.asset(
    partitions_def=SOURCES,
    kinds={"python", "file"},
    code_version="1",
    freshness_policy=freshness_policy(),
    pool="sources",
    **COMMON,
)
def source_documents(
    context: dg.AssetExecutionContext,
    config: SyncConfig,
    postgres: PostgresResource,
    storage: StorageResource,
    guard: GuardResource,
) -> dg.MaterializeResult:
    """The raw documents of a source, fetched when their size, mtime or version changed, kept by content hash.

    A source that suddenly lists nothing, or lost a large share of its documents, is not emptied until confirmed. One
    whose server dies halfway keeps what was fetched, loses nothing, and the next sync goes on from there.
    """
    active = None if config.accept_deletions else guard
    return run_stage(
        context,
        postgres,
        lambda stage: (
            _listed_by_another(stage) or sync_source_documents(stage, storage.open(), active)
        ),
        _idle,
        turns="listing",
    )


def _idle(connection: Connection, sources: Mapping[str, SourceRow]) -> dict[str, Outcome]:
    """Those whose listing is cheap, and as recorded. One that differs is listed again by its writer: what was listed
    before another sync ended must not undo that one. So the only source of a run has its writer list it at once."""
    if len(sources) == 1:
        return {}
    watched = {k: s.id for k, s in sources.items() if source_type(s.source_type).watched}
    found: dict[str, Outcome] = {}
    for key in listable_sources(connection, watched, most=LISTED):
        try:
            listed = _unchanged(connection, sources[key])
        except RagError:
            continue  # said by its writer
        if listed is not None:
            found[key] = Outcome(Plan(kept=listed), listed)
    mark_syncing(connection, [watched[key] for key in found])
    return found


def _unchanged(connection: Connection, source: SourceRow) -> int | None:
    """How many documents the source lists, if they are the recorded ones as they were."""
    recorded = recorded_entries(connection, source.id)
    forgotten = forgotten_hashes(connection, source.name)
    count = len(recorded)
    with closing(open_registered(source)) as opened:
        for entry in opened.list():
            if forgotten and key_hash(entry.key) in forgotten:
                continue
            if recorded.pop(entry.key, None) != (entry.locator, entry.change_token):
                return None
    return None if recorded else count


def _listed_by_another(stage: Stage) -> Outcome | None:
    """A source in shards is listed, and fetched, by the first of them for all."""
    if stage.shard is None or not is_listed(stage.connection, stage.source.id):
        return None
    count = count_entries(stage.connection, stage.source.id)
    return Outcome(Plan(kept=count), count, metadata={BY_ANOTHER: "by another shard of this sync"})


def sync_source_documents(stage: Stage, files: FileStore, guard: GuardResource | None) -> Outcome:
    """Lists the source and fetches what changed. Raises SourceError, and forgets nothing, on half a listing."""
    mark_syncing(stage.connection, [stage.source.id])
    with closing(open_registered(stage.source)) as source:
        plan, batches = stage_listing(stage.writer, stage.source.id, _checked(source.list()))
        listed = plan.kept
        if guard is not None:
            recorded = count_entries(stage.connection, stage.source.id)
            check_deletions(stage.source.name, guard, listed, plan.deleted, recorded)
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


def check_deletions(name: str, guard: GuardResource, listed: int, gone: int, recorded: int) -> None:
    """Raises DeletionGuard when the listing is empty, or lost more than the guard's share and number of documents."""
    emptied = recorded > 0 and listed == 0
    shrunk = gone > guard.documents and gone > guard.share * recorded
    if emptied or shrunk:
        raise DeletionGuard(
            f"The source lists {listed} documents; {gone} of the {recorded} recorded ones are gone. "
            f"Nothing was deleted or changed. If that is right: rag ingest {name} --accept-deletions"
        )


def _checked(entries: Iterable[Entry]) -> Iterator[Entry]:
    for entry in entries:
        if len(entry.key.encode("utf-8", "replace")) > MAX_KEY:
            raise SourceError(f"A key is longer than {MAX_KEY} bytes: {entry.key[:100]!r}…")
        yield entry


@dataclass
class Fetching:
    """The fetches of one sync, batch by batch."""

    stage: Stage
    source: Source
    files: FileStore
    plan: Plan
    silent: int = 0  # fetches that had no answer
    refuted: int = (
        0  # how many of them a later fetch refutes: one that began after them and was answered
    )
    dead: bool = False  # from then on nothing is asked, even if an answer was still on its way
    _lock: Lock = field(default_factory=Lock)

    def batch(self, listed: list[Listed]) -> None:
        """Fetches and records a batch. Raises SourceUnavailable when the server died, with what it gave recorded."""
        self.source.prefetch([item.entry for item in listed])
        with ThreadPoolExecutor(FETCHERS) as pool:
            results = list(zip(listed, pool.map(self._one, listed)))
        fetched = []
        for item, result in results:
            if isinstance(result, SourceUnavailable):
                if self.dead:
                    continue  # says nothing about this document; the next sync asks again
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
                f"The next sync goes on from there: rag ingest {self.stage.source.name}"
            )

    def _one(self, item: Listed) -> Fetched | SourceUnavailable | None:
        """None: not asked, because the server does not answer."""
        if self.dead:
            return None
        before = self.silent
        try:
            fetched = self._fetch(item)
        except SourceUnavailable as error:
            with self._lock:
                self.silent += 1
                self.dead = self.dead or self.silent - self.refuted >= SILENT
            return error
        with self._lock:
            self.refuted = max(self.refuted, before)
        return fetched

    def _fetch(self, item: Listed) -> Fetched:
        entry = item.entry
        try:
            content = self.source.fetch(entry, item.known)
        except SourceError as error:
            if error.transient:
                raise
            return Fetched(entry, None, entry.size, str(error))
        fault_point("entry-read")
        if content is None:
            return Fetched(
                replace(entry, change_token=item.known), item.content_hash, item.size, None
            )
        entry = replace(entry, change_token=entry.change_token or content.change_token)
        data = wrap(content.data, content.about)
        digest = content_hash(data)
        name = raw_name(digest)
        if self.files.size(name) != len(data):
            # Not synced to disk: it is verified when it is read, and fetched again if it is not what it should be.
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
            self.plan.kept += 1  # touched, not changed
