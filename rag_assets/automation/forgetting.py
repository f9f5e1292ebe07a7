"""The job that finishes what `rag forget` asked for, source by source; nothing but what is recorded tells it what."""

from contextlib import closing
from typing import Any

import dagster as dg

from rag_assets.assets.run_stage import RETRY, Stage
from rag_assets.automation.jobs import MAX_RUNTIME
from rag_assets.automation.op_helpers import for_each_source
from rag_assets.operations.erasure import forget
from rag_assets.partitions import SOURCES
from resources.dagster_resources import MilvusResource, PostgresResource, StorageResource
from resources.postgres.documents.erasures import find_request, unfinished_requests


@dg.op(retry_policy=RETRY)
def forget_requested(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    milvus: MilvusResource,
    storage: StorageResource,
) -> list[dict[str, Any]]:
    receipts = []
    with closing(milvus.open()) as store:

        def work(stage: Stage) -> None:
            for hashed in unfinished_requests(stage.connection, stage.source.name):
                item = find_request(stage.connection, stage.source.name, hashed)
                if item is not None:
                    receipts.append(forget(stage, store, storage.open(), item))

        for_each_source(context, postgres, "forget", work)
    context.add_output_metadata({"receipts": dg.MetadataValue.json(receipts)})
    return receipts


@dg.job(
    tags=MAX_RUNTIME,
    partitions_def=SOURCES,
    description="Removes the documents that `rag forget` asked for from every store, and writes their receipts.",
)
def forget_documents() -> None:
    forget_requested()
