"""The definitions as Dagster loads them: the descriptions of assets, the graph, the checks, and the automation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap
from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module

from rag_assets.cli.last_checks import IN_EVERY_SYNC
from rag_assets.dagster_internals import default_freshness_policy
from rag_assets.definitions import build_definitions, build_resources, defs
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.vectors import KINDS
from rag_assets.settings.load import Settings
from rag_assets.settings.stores import data_file
from tests.support.extent import selected

ROOT = Path(__file__).parents[2]

#: asset -> the assets that it is made from. Section 2 of the design.
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
#: Assets that are not part of a sync.
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
    return build_definitions(build_resources(Settings()), Settings())


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def _checks(definitions: dg.Definitions) -> Iterator[tuple[str, dg.AssetCheckSpec]]:
    for definition in definitions.asset_checks or []:
        assert isinstance(definition, dg.AssetChecksDefinition)
        for spec in definition.check_specs:
            yield spec.asset_key.to_user_string(), spec


def test_the_definitions_are_loadable() -> None:
    dg.Definitions.validate_loadable(defs())


def test_dagster_finds_the_definitions_in_the_module() -> None:
    (target,) = loadable_targets_from_python_module("rag_assets.definitions", None)
    assert target.target_definition is defs


@pytest.mark.parametrize("command", selected(["check defs", "list defs --json"], ["check defs"]))
def test_dagsters_own_commands_accept_the_project(tmp_path: Path, command: str) -> None:
    """The commands that a CI of Dagster projects runs first."""
    result = subprocess.run(
        [Path(sys.executable).with_name("dg"), *command.split()],
        cwd=ROOT,
        # Otherwise it starts the embedded PostgreSQL, since dagster.yaml is in this folder.
        env={**os.environ, "RAG_HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result
    if "--json" in command:
        listed = json.loads(result.stdout)
        assert {asset["asset_key"] for asset in listed["assets"]} == set(GRAPH)


def test_the_launchpad_shows_the_configuration_of_ops_alone() -> None:
    """Neither the settings nor secrets: a run reads them itself, and Dagster stores none."""
    settings = Settings(milvus_token="root:secret", openai_api_key="secret")
    definitions = build_definitions(settings=settings)
    expected = {
        "repair_drift": {"ops": {"repair": {"config": {"dry_run": False}}}},
        "keep_history": {},
    }
    for name, config in expected.items():
        snapshot = definitions.resolve_job_def(name).get_job_snapshot()
        root = snapshot.mode_def_snaps[0].root_config_key
        schema = snapshot.config_schema_snapshot
        launchpad = default_values_yaml_from_type_snap(schema, schema.get_config_snap(root or ""))
        assert yaml.safe_load(launchpad) == config


def test_schedules_and_the_freshness_policy_follow_the_settings() -> None:
    settings = Settings(
        timezone="Asia/Tokyo",
        sync_schedule="0 1 * * *",
        nightly_check_schedule="1 1 * * *",
        nightly_evaluation_schedule="2 1 * * *",
        quick_check_schedule="3 1 * * *",
        history_schedule="4 1 * * *",
        compaction_schedule="5 1 * * *",
    )
    definitions = build_definitions(build_resources(settings), settings)
    schedules = definitions.get_repository_def().schedule_defs
    assert {s.name: (s.cron_schedule, s.execution_timezone) for s in schedules} == {
        "nightly_check": ("1 1 * * *", "Asia/Tokyo"),
        "nightly_evaluation": ("2 1 * * *", "Asia/Tokyo"),
        "frequent_quick_check": ("3 1 * * *", "Asia/Tokyo"),
        "daily_history": ("4 1 * * *", "Asia/Tokyo"),
        "weekly_compaction": ("5 1 * * *", "Asia/Tokyo"),
    }
    policies = {
        spec.key.to_user_string(): spec.freshness_policy
        for spec in definitions.resolve_all_asset_specs()
        if spec.freshness_policy
    }
    assert policies == {"source_documents": default_freshness_policy("0 1 * * *", "Asia/Tokyo")}


def test_the_default_schedules(definitions: dg.Definitions) -> None:
    schedules = definitions.get_repository_def().schedule_defs
    assert {s.name: s.cron_schedule for s in schedules} == {
        "nightly_check": "0 5 * * *",
        "nightly_evaluation": "0 6 * * *",
        "frequent_quick_check": "*/15 * * * *",
        "daily_history": "30 3 * * *",
        "weekly_compaction": "0 4 * * 0",
    }


def test_the_graph_is_that_of_the_design(specs: dict[str, dg.AssetSpec]) -> None:
    graph = {
        name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()
    }
    assert graph == GRAPH


@pytest.mark.parametrize("name", GRAPH)
def test_an_asset_is_described(specs: dict[str, dg.AssetSpec], name: str) -> None:
    spec = specs[name]
    assert spec.kinds
    assert spec.group_name == GROUPS.get(name, "ingestion")
    assert spec.code_version
    assert len(spec.description or "") > 40
    # An embedding file contains texts of any source.
    assert spec.partitions_def == (None if name == "compacted_embeddings" else SOURCES)


@pytest.mark.parametrize("name", GRAPH)
def test_an_asset_names_its_store_its_page_and_its_source(
    specs: dict[str, dg.AssetSpec], name: str
) -> None:
    metadata = specs[name].metadata
    assert {"dagster/table_name", "dagster/uri"} & metadata.keys()
    assert Path(metadata["docs"].value).is_file()
    (reference,) = metadata["dagster/code_references"].code_references
    assert Path(reference.file_path).is_relative_to(ROOT / "rag_assets" / "assets")


def test_column_lineage_names_columns_of_upstream_assets(specs: dict[str, dg.AssetSpec]) -> None:
    columns = {
        name: {column.name for column in spec.metadata["dagster/column_schema"].columns}
        for name, spec in specs.items()
        if "dagster/column_schema" in spec.metadata
    }
    for name, spec in specs.items():
        if name not in columns or name == "source_documents":
            continue
        lineage = spec.metadata["dagster/column_lineage"].deps_by_column
        assert lineage.keys() <= columns[name]
        for sources in lineage.values():
            for source in sources:
                upstream = source.asset_key.to_user_string()
                assert source.column_name in columns[upstream]
                assert upstream in _upstream(name)


def _upstream(name: str) -> set[str]:
    return GRAPH[name].union(*map(_upstream, GRAPH[name]))


def test_owners_are_a_setting(definitions: dg.Definitions) -> None:
    settings = Settings(owners=("team:search", "someone@example.com"))
    for spec in build_definitions(settings=settings).resolve_all_asset_specs():
        assert list(spec.owners) == ["team:search", "someone@example.com"]
    assert not any(spec.owners for spec in definitions.resolve_all_asset_specs())
    with pytest.raises(ValueError, match="search-team"):
        Settings(owners="search-team")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", GRAPH)
def test_an_asset_is_retried_and_runs_a_backfill_in_one_run(
    definitions: dg.Definitions, name: str
) -> None:
    asset = definitions.resolve_assets_def(name)
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()
    policy = asset.op.retry_policy
    assert policy is not None
    assert policy.max_retries > 0


def test_a_failed_step_starts_no_other_run_unless_it_checks(definitions: dg.Definitions) -> None:
    retries = yaml.safe_load(data_file("dagster.yaml").read_text())["run_retries"]
    assert retries["retry_on_asset_or_op_failure"] is False
    tag = "dagster/retry_on_asset_or_op_failure"
    jobs = [job for job in definitions.get_repository_def().get_all_jobs() if tag in job.tags]
    assert {job.name for job in jobs} == {"check_source", "check_source_quickly"}


def test_every_checked_asset_has_checks(definitions: dg.Definitions) -> None:
    checks = list(_checks(definitions))
    assert {asset for asset, _ in checks} == set(CHECKED)
    assert all(spec.description and spec.partitions_def == SOURCES for _, spec in checks)
    # Unique: a check is reported by its name, without its asset.
    names = [spec.name for _, spec in checks]
    assert len(names) == len(set(names))
    for kind in ("dense", "sparse", "multi"):
        assert {
            f"{kind}_vectors_match_postgres",
            f"{kind}_vectors_sample_matches_postgres",
            f"{kind}_vectors_are_sound",
            f"{kind}_vectors_are_found_by_search",
            f"{kind}_index_is_as_declared",
            f"{kind}_alias_points_to_current_model",
        } == {spec.name for asset, spec in checks if asset == f"{kind}_vectors"}


def test_a_check_that_must_pass_before_publication_blocks(definitions: dg.Definitions) -> None:
    blocking = {spec.name for _, spec in _checks(definitions) if spec.blocking}
    assert blocking == {"chunks_have_documents", "chunk_positions_are_contiguous"}
    job = definitions.resolve_job_def("sync_source")
    selected = {key.name for key in job.asset_layer.asset_graph.asset_check_keys}
    # A sync runs only these; the full comparison belongs to another job.
    assert selected == blocking
    materialized = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert materialized == GRAPH.keys() - GROUPS.keys()


def test_each_form_of_checking_has_its_own_job(definitions: dg.Definitions) -> None:
    quick = {f"{kind}_vectors_sample_matches_postgres" for kind in ("dense", "sparse", "multi")}
    # Not about the stores; due_sources_sensor reports it.
    late = {"synced_on_schedule"}
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


def test_jobs_schedules_and_sensors_are_described_and_bounded(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = {job.name: job for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert all(job.description for job in jobs.values())
    hours = {name: int(job.tags["dagster/max_runtime"]) / 3600 for name, job in jobs.items()}
    assert {name for name, limit in hours.items() if limit == 1} == {
        "check_source_quickly",
        "drop_unpublished_collections",
        "keep_history",
        "purge_removed_sources",
    }
    assert max(hours.values()) == 24
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
        "unpublished_collections_sensor": ["publish_collections"],
    }
    for automation in (*repository.schedule_defs, *repository.sensor_defs):
        assert automation.default_status.value == "RUNNING", automation.name
        assert automation.description, automation.name


def test_a_full_check_is_told_from_the_checks_of_a_sync(definitions: dg.Definitions) -> None:
    """`rag status` names these checks without Dagster, which takes seconds to import."""
    graph = definitions.resolve_job_def("sync_source").asset_layer.asset_graph
    assert {key.name for key in graph.asset_check_keys} == IN_EVERY_SYNC
