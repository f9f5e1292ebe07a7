"""Names that users' Dagster instances, run histories and dagster.yaml files contain: none may disappear.

A renamed asset or check loses its history in the UI; a renamed schedule or sensor starts again with its default status
and an empty cursor; a renamed tag or pool has no meaning for runs in progress. New names go to the NEW_ lists.
"""

from __future__ import annotations

import dagster as dg
import pytest
import yaml

from rag_assets import partitions
from rag_assets.automation.sensors import failed_checks
from rag_assets.dagster_storage import StackPostgresStorage
from rag_assets.definitions import build_definitions, build_resources
from rag_assets.settings.load import Settings
from rag_assets.settings.stores import data_file
from resources import run_processes

KINDS = ("dense", "sparse", "multi")

#: asset -> its pool and its checks.
ASSETS: dict[str, tuple[str | None, set[str]]] = {
    "source_documents": ("sources", {"files_are_as_read", "synced_on_schedule"}),
    "documents": ("postgres", {"statuses_agree"}),
    "document_chunks": (
        "postgres",
        {
            "chunk_positions_are_contiguous",
            "chunks_have_documents",
            "deleted_chunks_have_left_milvus",
        },
    ),
    "chunk_embeddings": (
        "embedder",
        {"chunk_embeddings_are_in_parquet", "embedder_returns_known_vectors"},
    ),
    **{
        f"{kind}_vectors": (
            "milvus",
            {
                f"{kind}_alias_points_to_current_model",
                f"{kind}_index_is_as_declared",
                f"{kind}_vectors_are_found_by_search",
                f"{kind}_vectors_are_sound",
                f"{kind}_vectors_match_postgres",
                f"{kind}_vectors_sample_matches_postgres",
            },
        )
        for kind in KINDS
    },
    "retrieval_evaluation": (
        None,
        {"indexes_find_nearest_neighbours", "known_items_are_found", "retrieval_quality_is_kept"},
    ),
    "compacted_embeddings": (None, set()),
}
#: Jobs of ops -> their ops. Runs of other jobs are recorded under the names of assets and checks.
OPS = {
    "forget_documents": {"forget_requested"},
    "keep_history": {"sweep_raw_files", "trim_logs", "turn_months"},
    "purge_removed_sources": {"drain_outbox"},
    "rebuild_milvus": {"rebuild_collections"},
    "rebuild_parquet": {"embed_what_is_lost"},
    "repair_drift": {"repair"},
}
JOBS = {
    *OPS,
    "check_source",
    "check_source_quickly",
    "compact_embeddings",
    "evaluate_retrieval",
    "sync_source",
}
SCHEDULES = {
    "daily_history",
    "frequent_quick_check",
    "nightly_check",
    "nightly_evaluation",
    "weekly_compaction",
}
SENSORS = {
    "changed_folders_sensor",
    "due_sources_sensor",
    "failed_checks_sensor",
    "sources_table_sensor",
}
RESOURCES = {
    "chunking",
    "embedder",
    "guard",
    "limits",
    "milvus",
    "parsing",
    "postgres",
    "retrieval",
    "storage",
}

#: Names of this version that the last one did not have. Jobs of ops -> their ops.
NEW_OPS = {
    "publish_collections": {"publish"},
    "drop_unpublished_collections": {"drop_unpublished"},
}
NEW_SENSORS = {"unpublished_collections_sensor"}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(build_resources(Settings()), Settings())


@pytest.fixture(scope="module")
def repository(definitions: dg.Definitions) -> dg.RepositoryDefinition:
    return definitions.get_repository_def()


def test_assets_checks_and_pools(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    checks: dict[str, set[str]] = {
        key.to_user_string(): set() for key in graph.get_all_asset_keys()
    }
    for check in graph.asset_check_keys:
        checks[check.asset_key.to_user_string()].add(check.name)
    pools = {
        key.to_user_string(): assets.op.pool
        for assets in repository.assets_defs_by_key.values()
        for key in assets.keys
    }
    assert {name: (pools[name], names) for name, names in checks.items()} == ASSETS


def test_jobs_and_their_ops(repository: dg.RepositoryDefinition) -> None:
    jobs = {job.name: job for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert set(jobs) == JOBS | NEW_OPS.keys()
    ops = OPS | NEW_OPS
    assert {name: {node.name for node in jobs[name].nodes} for name in ops} == ops


def test_schedules_and_sensors(repository: dg.RepositoryDefinition) -> None:
    assert {schedule.name for schedule in repository.schedule_defs} == SCHEDULES
    assert {sensor.name for sensor in repository.sensor_defs} == SENSORS | NEW_SENSORS


def test_resources(definitions: dg.Definitions) -> None:
    assert set(definitions.resources or ()) == RESOURCES


def test_the_partitions_and_the_tags_of_runs() -> None:
    assert partitions.SOURCES.name == "sources"
    assert partitions.SYNC_TAG == "rag/sync"
    process_tags = (run_processes.HOST_TAG, run_processes.PID_TAG)
    assert process_tags == (".dagster/rag_host", ".dagster/rag_pid")
    assert run_processes.COMMAND_TAG == "rag/command"
    assert failed_checks.ATTEMPT_TAG == "rag/repair_attempt"
    assert failed_checks.CHECK_TAG == "rag/check"


def test_copies_of_dagster_yaml_find_the_storage() -> None:
    config = yaml.safe_load(data_file("dagster.yaml").read_text())["storage"]["custom"]
    assert config["module"] == "rag_assets.dagster_storage"
    assert config["class"] == StackPostgresStorage.__name__ == "StackPostgresStorage"
