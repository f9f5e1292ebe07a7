"""Jobs that rebuild what is derived: the collections from Parquet, Parquet from the texts."""

from contextlib import closing
from typing import Any

import dagster as dg

from rag_assets.assets.run_stage import RETRY, Stage
from rag_assets.automation.jobs import MAX_RUNTIME
from rag_assets.automation.op_helpers import errors_as_failures, for_each_source
from rag_assets.operations.rebuild import Rebuilder
from rag_assets.operations.reembed import reembed
from rag_assets.partitions import SOURCES
from resources.dagster_resources import (
    EmbedderResource,
    MilvusResource,
    PostgresResource,
    StorageResource,
)


class RebuildConfig(dg.Config):
    """`source`: only this source's rows, in place; empty: all, into new collections. `dry_run`: change nothing."""

    source: str = ""
    dry_run: bool = False


@dg.op(retry_policy=RETRY)
def rebuild_collections(
    context: dg.OpExecutionContext,
    config: RebuildConfig,
    postgres: PostgresResource,
    milvus: MilvusResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> dict[str, Any]:
    with closing(milvus.open()) as store:
        rebuilder = Rebuilder(postgres.open(), store, storage.open(), milvus, embedder, context.log)
        with errors_as_failures():
            if config.source:
                report = rebuilder.one_source(config.source, dry_run=config.dry_run)
            else:
                report = rebuilder.all_sources(dry_run=config.dry_run)
    found = dg.MetadataValue.json(report.as_dict())
    if report.refused:
        kept = "" if config.source else " What served before goes on serving."
        raise dg.Failure(report.refused + "." + kept, {"rebuild": found}, allow_retries=False)
    context.add_output_metadata({"rebuild": found})
    return report.as_dict()


@dg.job(
    tags=MAX_RUNTIME,
    description="Writes new collections from Parquet without a model call; they serve once the full comparison passes.",
)
def rebuild_milvus() -> None:
    rebuild_collections()


@dg.op(retry_policy=RETRY)
def embed_what_is_lost(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> list[dict[str, Any]]:
    def work(stage: Stage) -> dict[str, Any]:
        target = embedder.target(stage.part)
        report = reembed(stage, storage.open(), embedder.open(), target, storage.precision)
        return report.as_dict()

    reports = for_each_source(context, postgres, "rebuild parquet", work)
    context.add_output_metadata({"rebuilds": dg.MetadataValue.json(reports)})
    return reports


@dg.job(
    tags=MAX_RUNTIME,
    partitions_def=SOURCES,
    description="Embeds again the texts of a source whose Parquet files are gone or damaged. Leaves Milvus as it is.",
)
def rebuild_parquet() -> None:
    embed_what_is_lost()


UPKEEP_JOBS = [rebuild_milvus, rebuild_parquet]
