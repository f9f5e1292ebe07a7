"""The job that finishes what `rag forget` asked for, source by source; nothing but what is recorded tells it what."""

from typing import Any

import dagster as dg

from rag_assets.assets.stage import RETRY, Stage
from rag_assets.automation.jobs import MAX_RUNTIME
from rag_assets.forget import forget
from rag_assets.partitions import SOURCES, source_name
from resources.configured import MilvusResource, PostgresResource, StorageResource
from resources.postgres.forgotten import find_request, unfinished_requests
from resources.postgres.sources import get_source


@dg.op(retry_policy=RETRY)
def forget_requested(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    milvus: MilvusResource,
    storage: StorageResource,
) -> list[dict[str, Any]]:
    key, receipts = context.partition_key, []
    store = milvus.open()
    try:
        with postgres.open().writer(key) as writer:
            source = get_source(writer.connection, source_name(key))
            stage = Stage("forget", source, writer, context.log)
            for hashed in unfinished_requests(writer.connection, source.name):
                item = find_request(writer.connection, source.name, hashed)
                if item is not None:
                    receipts.append(forget(stage, store, storage.open(), item))
    finally:
        store.close()
    context.add_output_metadata({"receipts": dg.MetadataValue.json(receipts)})
    return receipts


@dg.job(
    tags=MAX_RUNTIME,
    partitions_def=SOURCES,
    description="Removes the documents that `rag forget` asked for from every store, and writes their receipts.",
)
def forget_documents() -> None:
    forget_requested()
