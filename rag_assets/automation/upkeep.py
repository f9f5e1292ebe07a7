"""Jobs that rebuild what is derived: the collections from Parquet, Parquet from the texts."""

from typing import Any

import dagster as dg

from rag_assets.assets.stage import RETRY, Stage
from rag_assets.automation.jobs import MAX_RUNTIME
from rag_assets.partitions import SOURCES, source_name
from rag_assets.rebuild import Rebuilder
from rag_assets.reembedding import reembed
from resources.configured import EmbedderResource, MilvusResource, PostgresResource, StorageResource
from resources.errors import RagError
from resources.postgres.sources import get_source


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
    store = milvus.open()
    rebuilder = Rebuilder(postgres.open(), store, storage.open(), milvus, embedder, context.log)
    try:
        if config.source:
            report = rebuilder.one_source(config.source, dry_run=config.dry_run)
        else:
            report = rebuilder.all_sources(dry_run=config.dry_run)
    except RagError as error:
        raise dg.Failure(str(error), allow_retries=error.transient) from error
    finally:
        store.close()
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
    reports = []
    for key in (
        context.partition_keys if context.has_partition_key_range else [context.partition_key]
    ):
        try:
            with postgres.open().writer(key, run=context.run_id) as writer:
                source = get_source(writer.connection, source_name(key))
                stage = Stage("rebuild parquet", source, writer, context.log)
                report = reembed(
                    stage,
                    storage.open(),
                    embedder.open(),
                    embedder.target(source),
                    storage.precision,
                )
        except RagError as error:
            raise dg.Failure(str(error), allow_retries=error.transient) from error
        reports.append(report.as_dict())
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
