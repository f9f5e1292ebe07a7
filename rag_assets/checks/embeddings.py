"""The check on chunk_embeddings: every text that is said to be embedded is, in a file as it was written."""

import dagster as dg

from rag_assets.checks.results import of_each_source, result
from rag_assets.partitions import SOURCES
from resources.dagster_resources import EmbedderResource, PostgresResource, StorageResource
from resources.embedding_files import damaged
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import REPAIR
from resources.postgres.registry.sources import get_source
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.embeddings import files_of_source, without_embedding


@dg.asset_check(
    asset="chunk_embeddings",
    description="Every completed chunk's text has an embedding; its file is there, readable, of the recorded checksum.",
    partitions_def=SOURCES,
)
def chunk_embeddings_are_in_parquet(
    context: dg.AssetCheckExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> dg.AssetCheckResult:
    files = storage.open()

    def look(connection: Connection, name: str) -> dg.AssetCheckResult:
        target = embedder.target(SyncScope(get_source(connection, name).id))
        recorded = files_of_source(connection, target)
        lacking = without_embedding(connection, target)
        size = sum(file.written.byte_count for file in recorded)
        wrong = damaged(files, recorded)
        return result(
            not wrong and not lacking,
            f"{name}: {len(wrong)} of {len(recorded)} files ({size / 1e6:.1f} MB read) are gone or damaged; "
            f"{len(lacking)} completed chunks have no embedding under {target.model}.",
            columns=("what", "which", "reason"),
            rows=[
                *(("file", file.written.path, reason) for file, reason in wrong),
                *(("chunk", chunk, f"of {key}: no embedding") for _, key, chunk in lacking),
            ],
            mend=f"{REPAIR} --source {name}",
            metadata={
                "files": len(recorded),
                "bytes": size,
                "damaged": len(wrong),
                "without_embedding": len(lacking),
            },
        )

    return of_each_source(context, postgres, look)
