"""The operations of a world: repair and erasure without Dagster, rebuild, publication and compaction by their jobs."""

from __future__ import annotations

import logging
from typing import Any

from rag_assets.ingestion.outbox import drain_removed_sources
from rag_assets.ingestion.stage import Stage
from rag_assets.operations.erasure import forget
from rag_assets.operations.repair import RepairContext, repair_source
from resources.postgres.documents.erasures import find_erasure, key_hash, request_erasure
from resources.postgres.registry.sources import get_source
from tests.support.world import World

LOG = logging.getLogger("test")


def repair(world: World, source: str = "docs", *, dry_run: bool = False) -> dict[str, Any]:
    """Repair a source as job `repair_drift` does. Returns the report."""
    stores, settings = world.stores, world.resources
    context = RepairContext(
        stores,
        settings["chunking"].config(),
        settings["storage"].precision,
        settings["limits"].outbox_seconds,
    )
    if not dry_run:
        drain_removed_sources(world.postgres, stores.milvus)
    with world.postgres.writer(source) as writer:
        stage = Stage("repair", get_source(writer.connection, source), writer, LOG)
        return repair_source(stage, context, dry_run=dry_run).as_dict()


def rebuild(world: World, *, success: bool = True, **config: Any) -> dict[str, Any]:
    """Rebuild the collections. Returns the report, or (without `success`) the failure's message and its report."""
    ops = {"rebuild_collections": config}
    result = world.run("rebuild_milvus", None, ops, raise_on_error=success)
    if success:
        return result.output_for_node("rebuild_collections")
    (failed,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failed.user_failure_data is not None
    report = failed.user_failure_data.metadata.get("rebuild")
    return {"message": failed.user_failure_data.description, "report": report and report.value}


def blocked_publication(world: World) -> str:
    """Run a publication that the gate must refuse, once and without a retry. Returns the message of its failure."""
    result = world.run("publish_collections", None, raise_on_error=False)
    (failed,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    assert failed.user_failure_data is not None
    report: Any = failed.user_failure_data.metadata["publication"].value
    message = failed.user_failure_data.description or ""
    assert report["published"] == report["waiting"] == {}
    assert report["blocked"] and report["blocked"] in message
    return message


def compact(world: World) -> dict[str, Any]:
    """Compact the embedding files. Returns the metadata of the materialization."""
    result = world.run("compact_embeddings", None)
    (event,) = [event for event in result.all_events if event.is_step_materialization]
    metadata = event.step_materialization_data.materialization.metadata
    return {name: entry.value for name, entry in metadata.items()}


def request_to_forget(world: World, key: str) -> None:
    """Delete a document of source `docs` and record the request, as `rag forget` does first."""
    with world.postgres.writer("docs") as writer, writer.transaction() as connection:
        source = get_source(connection, "docs")
        document = world.one("SELECT id FROM documents WHERE source_key = %s", key)
        request_erasure(connection, "docs", source.id, key, document)


def finish_forgetting(world: World, key: str) -> dict[str, Any]:
    """Erase a requested document from every store, as the job does. Returns the receipt."""
    with world.postgres.writer("docs") as writer:
        stage = Stage("forget", get_source(writer.connection, "docs"), writer, LOG)
        request = find_erasure(writer.connection, "docs", key_hash(key))
        assert request is not None
        return forget(stage, world.store, world.resources["storage"].open(), request)
