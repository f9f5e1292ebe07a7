"""The definitions as Dagster loads them: what every asset says of itself, the graph, the checks, what automates it."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from rag_assets.definitions import build_definitions, build_resources
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.vectors import KINDS
from rag_assets.settings.load import Settings

#: asset -> what it is made from. Section 2 of the design.
GRAPH = {
    "source_documents": set(),
    "documents": {"source_documents"},
    "document_chunks": {"documents"},
    "chunk_embeddings": {"document_chunks"},
    "dense_vectors": {"chunk_embeddings"},
    "sparse_vectors": {"chunk_embeddings"},
    "multi_vectors": {"chunk_embeddings"},
    "retrieval_evaluation": {"dense_vectors", "sparse_vectors", "multi_vectors"},
    "compacted_embeddings": {"chunk_embeddings"},
}
#: Assets that are no part of a sync.
GROUPS = {"retrieval_evaluation": "evaluation", "compacted_embeddings": "maintenance"}
CHECKED = (
    "source_documents",
    "documents",
    "document_chunks",
    "chunk_embeddings",
    *(f"{kind}_vectors" for kind in KINDS),
    "retrieval_evaluation",
)


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(build_resources(Settings()))


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def _checks(definitions: dg.Definitions) -> Iterator[tuple[str, dg.AssetCheckSpec]]:
    for definition in definitions.asset_checks or []:
        assert isinstance(definition, dg.AssetChecksDefinition)
        for spec in definition.check_specs:
            yield spec.asset_key.to_user_string(), spec


def test_the_module_loads_as_dagster_loads_it() -> None:
    from rag_assets.definitions import defs

    dg.Definitions.validate_loadable(defs)


def test_the_graph_is_that_of_the_design(specs: dict[str, dg.AssetSpec]) -> None:
    found = {
        name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()
    }
    assert found == GRAPH


@pytest.mark.parametrize("name", GRAPH)
def test_an_asset_says_what_it_is(specs: dict[str, dg.AssetSpec], name: str) -> None:
    spec = specs[name]
    assert spec.kinds
    assert spec.owners
    assert spec.group_name == GROUPS.get(name, "ingestion")
    assert spec.code_version
    assert len(spec.description or "") > 40
    # A file holds texts of any source.
    assert spec.partitions_def == (None if name == "compacted_embeddings" else SOURCES)


@pytest.mark.parametrize("name", GRAPH)
def test_an_asset_retries_what_may_heal_and_runs_a_backfill_at_once(
    definitions: dg.Definitions, name: str
) -> None:
    asset = definitions.resolve_assets_def(name)
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()
    policy = asset.op.retry_policy
    assert policy is not None
    assert policy.max_retries > 0


def test_every_checked_asset_has_checks(definitions: dg.Definitions) -> None:
    found = list(_checks(definitions))
    assert {asset for asset, _ in found} == set(CHECKED)
    assert all(spec.description and spec.partitions_def == SOURCES for _, spec in found)
    names = [spec.name for _, spec in found]
    assert len(names) == len(set(names))  # a name says which check failed, without its asset
    for kind in ("dense", "sparse", "multi"):
        assert {
            f"{kind}_vectors_match_postgres",
            f"{kind}_vectors_sample_matches_postgres",
            f"{kind}_vectors_are_sound",
            f"{kind}_vectors_are_found_by_search",
            f"{kind}_index_is_as_declared",
            f"{kind}_alias_points_to_current_model",
        } == {spec.name for asset, spec in found if asset == f"{kind}_vectors"}


def test_what_would_publish_a_lie_blocks(definitions: dg.Definitions) -> None:
    blocking = {spec.name for _, spec in _checks(definitions) if spec.blocking}
    assert blocking == {"chunks_have_documents", "chunk_positions_are_contiguous"}
    job = definitions.resolve_job_def("sync_source")
    selected = {key.name for key in job.asset_layer.asset_graph.asset_check_keys}
    assert selected == blocking  # the sync pays for these, the full comparison is another job's
    made = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert made == GRAPH.keys() - GROUPS.keys()


def test_the_forms_of_checking_are_jobs_apart(definitions: dg.Definitions) -> None:
    quick = {f"{kind}_vectors_sample_matches_postgres" for kind in ("dense", "sparse", "multi")}
    late = {"synced_on_schedule"}  # says nothing of the stores; its sensor reports it
    measured = {
        "retrieval_quality_is_kept",
        "indexes_find_nearest_neighbours",
        "known_items_are_found",
    }
    every = {spec.name for _, spec in _checks(definitions)}
    for job, expected in (
        ("check_source_quickly", quick),
        ("evaluate_retrieval", measured),
        ("check_source", every - quick - late - measured),
    ):
        graph = definitions.resolve_job_def(job).asset_layer.asset_graph
        assert {key.name for key in graph.asset_check_keys} == expected


def test_jobs_schedules_and_sensors_exist_and_end(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = {job.name: job for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert set(jobs) == {
        "sync_source",
        "check_source",
        "check_source_quickly",
        "evaluate_retrieval",
        "repair_drift",
        "rebuild_milvus",
        "rebuild_parquet",
        "forget_documents",
        "purge_removed_sources",
        "keep_history",
        "compact_embeddings",
    }
    assert all(job.description and "dagster/max_runtime" in job.tags for job in jobs.values())
    assert jobs["sync_source"].partitions_def == SOURCES
    schedules = {schedule.name: schedule.job_name for schedule in repository.schedule_defs}
    assert schedules == {
        "nightly_check": "check_source",
        "nightly_evaluation": "evaluate_retrieval",
        "daily_history": "keep_history",
        "weekly_compaction": "compact_embeddings",
        "frequent_quick_check": "check_source_quickly",
    }
    sensors = {
        sensor.name: [target.job_name for target in sensor.targets]
        for sensor in repository.sensor_defs
    }
    assert sensors == {
        "sources_table_sensor": ["purge_removed_sources"],
        "changed_folders_sensor": ["sync_source"],
        "due_sources_sensor": ["sync_source"],
        "failed_checks_sensor": ["repair_drift", "check_source"],
    }
    for automation in (*repository.schedule_defs, *repository.sensor_defs):
        assert automation.default_status.value == "RUNNING", automation.name
        assert automation.description, automation.name
