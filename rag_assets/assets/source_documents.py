"""Asset source_documents: what a source holds now, as raw bytes under their content's hash."""

from concurrent.futures import ThreadPoolExecutor

import dagster as dg

from rag_assets.assets.stage import COMMON, Outcome, Stage, columns_and_sample, run_stage
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.identity import content_hash
from rag_assets.pipeline.plan import Plan
from resources.configured import PostgresResource, StorageResource
from resources.errors import DeletionGuard, RagError
from resources.faults import passage
from resources.files import FileStore, raw_name
from resources.postgres.sources import (
    Fetched,
    count_entries,
    delete_gone_entries,
    listed_batch,
    mark_completed,
    mark_failed,
    mark_syncing,
    record_fetched,
    stage_listing,
)
from resources.sources.base import Entry, Source
from resources.sources.registry import open_source

#: Fetches at a time: reading waits for disks and networks, not for this process.
FETCHERS = 4


class SyncConfig(dg.Config):
    """`accept_deletions`: delete what the source no longer lists, however much it is."""

    accept_deletions: bool = False


class GuardResource(dg.ConfigurableResource):
    """When a sync stops instead of deleting: see `check_deletions`."""

    share: float = 0.2
    documents: int = 20


@dg.asset(partitions_def=SOURCES, kinds={"python", "file"}, code_version="1", **COMMON)
def source_documents(
    context: dg.AssetExecutionContext,
    config: SyncConfig,
    postgres: PostgresResource,
    storage: StorageResource,
    guard: GuardResource,
) -> dg.MaterializeResult:
    """The raw documents of a source, fetched when their size, mtime or version changed, kept by content hash.

    A source that suddenly lists nothing, or lost a large share of its documents, is not emptied until confirmed.
    """
    active = None if config.accept_deletions else guard
    return run_stage(
        context, postgres, lambda stage: sync_source_documents(stage, storage.open(), active)
    )


def sync_source_documents(stage: Stage, files: FileStore, guard: GuardResource | None) -> Outcome:
    """Lists the source and fetches what changed. Raises SourceError, and forgets nothing, on half a listing."""
    mark_syncing(stage.connection, stage.source.id)
    try:
        source = open_source(stage.source.source_type, stage.source.config)
        plan, batches = stage_listing(stage.writer, stage.source.id, source.list())
        listed = plan.kept
        if guard is not None:
            recorded = count_entries(stage.connection, stage.source.id)
            check_deletions(stage.source.name, guard, listed, plan.deleted, recorded)
        for batch in range(batches):
            _fetch_batch(stage, source, files, batch, plan)
            stage.progress(batch + 1, batches)
        if plan.deleted:
            passage("deletions-allowed")
            with stage.writer.transaction() as connection:
                plan.deleted = delete_gone_entries(connection, stage.source.id)
    except RagError as error:
        if stage.connection.closed == 0:
            mark_failed(stage.connection, stage.source.id, str(error))
        raise
    mark_completed(stage.connection, stage.source.id)
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


def _fetch_batch(stage: Stage, source: Source, files: FileStore, batch: int, plan: Plan) -> None:
    listed = listed_batch(stage.connection, batch)
    with ThreadPoolExecutor(FETCHERS) as pool:
        fetched = list(pool.map(lambda item: _fetch(source, files, item[0]), listed))
    for item, (_, old_hash, is_new) in zip(fetched, listed):
        plan.kept -= 1
        if item.error is not None:
            plan.failed += 1
        elif is_new:
            plan.inserted += 1
        elif item.content_hash != old_hash:
            plan.replaced += 1
        else:
            plan.kept += 1  # touched, not changed
    with stage.writer.transaction() as connection:
        record_fetched(connection, stage.source.id, fetched)


def _fetch(source: Source, files: FileStore, entry: Entry) -> Fetched:
    try:
        data = source.fetch(entry)
    except RagError as error:
        if error.transient:
            raise
        return Fetched(entry, None, entry.size, str(error))
    passage("entry-read")
    digest = content_hash(data)
    name = raw_name(digest)
    if files.size(name) != len(data):
        # Not synced to disk: it is verified when it is read, and fetched again if it is not what it should be.
        files.write(name, data, durable=False)
    return Fetched(entry, digest, len(data), None)
