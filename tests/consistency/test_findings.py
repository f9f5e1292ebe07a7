"""Findings and next steps as plain data, without stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rag_assets.checks.results import check_result
from rag_assets.consistency.evidence import inconsistency_of_drift
from rag_assets.consistency.finding import (
    EVIDENCE_ROWS,
    Finding,
    command_for,
    conclude,
    not_applicable,
)
from rag_assets.consistency.remediation import gave_up_message, next_steps
from rag_assets.pipeline.drift import Drift
from resources.postgres.consistency.check_results import CheckResult, Remedy

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FAILED = CheckResult(
    source="docs",
    asset="dense_vectors",
    check="dense_vectors_match_postgres",
    form="full",
    outcome="failed",
    sentence="1 missing.",
    remedy="repair",
    command="",
    inconsistency="missing_vectors",
    finding="x",
    since=NOW,
    checked_at=NOW,
    repairs=0,
    repaired_at=None,
)


def finding(count: int = 1, **changes: Any) -> Finding:
    ids = [f"row {number}" for number in range(count)]
    values: dict[str, Any] = {
        "sentence": f"{count} missing.",
        "source": "docs",
        "key": ids,
        "columns": ("id",),
        "rows": [(row,) for row in ids],
    }
    return conclude("failed", **(values | changes))


@pytest.mark.parametrize("rows", [100, 150])
def test_the_identity_covers_all_ids(rows: int) -> None:
    assert finding(rows).digest("full") != finding(rows + 1).digest("full")
    assert finding(rows).digest("full") == finding(rows).digest("full")


def test_the_identity_ignores_words_and_order() -> None:
    ids = [f"row {number}" for number in range(3)]
    reworded = finding(3, sentence="Other words.", command="other", rows=[], key=reversed(ids))
    assert reworded.digest("full") == finding(3).digest("full")


def test_only_comparable_findings_have_an_identity() -> None:
    """A quick form draws another sample each time, and contradicting reads hit other rows each time."""
    undetermined = conclude("undetermined", "?", source="docs", key=["a"])
    assert finding().digest("quick") == undetermined.digest("full") == ""
    assert finding().digest("full") and undetermined.digest("quick")


def test_the_evidence_is_cut_only_in_what_dagster_shows() -> None:
    result = check_result(finding(150))
    assert len(finding(150).rows) == 150
    assert len(result.metadata["evidence"].value.records) == EVIDENCE_ROWS  # pyright: ignore
    assert result.metadata["found"].value == 150
    assert result.metadata["remedy"].value == "repair"
    assert result.metadata["command"].value == "rag repair --source docs"


def test_a_finding_that_passed_has_no_remedy_and_no_key() -> None:
    passed = conclude(
        "passed", "Fine.", source="docs", key=["a"], inconsistency="index_issues", metadata={"n": 1}
    )
    assert (passed.remedy, passed.command, passed.key, passed.inconsistency) == (
        None,
        "",
        set(),
        None,
    )
    metadata = check_result(passed, 0.5).metadata
    # Dagster charts numbers, also the zeros.
    assert {name: value.value for name, value in metadata.items()} == {
        "n": 1,
        "outcome": "passed",
        "found": 0,
        "seconds": 0.5,
    }
    with pytest.raises(ValueError):
        Finding(outcome="passed", sentence="Fine.", remedy="repair")
    with pytest.raises(ValueError):
        Finding(outcome="failed", sentence="Not fine.")


def test_a_check_with_nothing_to_check_is_not_applicable() -> None:
    finding = not_applicable("multi is not among RAG_VECTORS=dense.")
    result = check_result(finding)
    assert result.passed
    assert result.description == "not applicable: multi is not among RAG_VECTORS=dense."
    assert {name: value.value for name, value in result.metadata.items()} == {
        "outcome": "passed",
        "applicable": False,
    }
    with pytest.raises(ValueError):
        Finding(outcome="failed", sentence="Not fine.", remedy="repair", applicable=False)


def test_commands_quote_the_source() -> None:
    assert command_for("repair", "two words") == "rag repair --source 'two words'"
    assert command_for("check", "docs") == "rag check --source docs"
    assert command_for("rebuild", "docs") == "rag rebuild milvus"
    assert command_for("person", "docs") == ""


@pytest.mark.parametrize(
    ("drift", "inconsistency"),
    [
        (Drift(missing=["a"], orphaned=["b"]), "missing_vectors"),
        (Drift(stale=["a"]), "missing_vectors"),
        (Drift(orphaned=["a"], duplicate=["b"]), "orphaned_chunks"),
        (Drift(duplicate=["a"]), None),
        (Drift(contradictions=["a"]), "missing_vectors"),
        (Drift(uncounted=1), "missing_vectors"),
    ],
)
def test_the_inconsistency_follows_from_the_drift_classes(
    drift: Drift, inconsistency: str | None
) -> None:
    assert inconsistency_of_drift(drift) == inconsistency


def steps(*results: CheckResult) -> list[tuple[str, int]]:
    return [(step.action, step.attempt) for step in next_steps(results, 3, NOW)]


def test_a_failed_check_is_repaired_checked_and_given_up() -> None:
    assert steps(FAILED) == [("repair", 1)]
    assert steps(replace(FAILED, repairs=1, repaired_at=NOW)) == [("check", 0)]
    checked = replace(FAILED, repairs=3, repaired_at=NOW - timedelta(hours=1))
    assert steps(checked) == [("give_up", 0)]
    assert "dense_vectors_match_postgres fails after 3 repairs" in gave_up_message(checked)
    assert "`rag repair --source docs --dry-run`" in gave_up_message(checked)


@pytest.mark.parametrize("remedy", ["rebuild", "check", "person"])
def test_only_the_remedy_repair_is_repaired(remedy: Remedy) -> None:
    assert steps(replace(FAILED, remedy=remedy, command="rag repair --source docs")) == []
    assert steps(replace(FAILED, sentence="", command="reworded")) == [("repair", 1)]


def test_an_undetermined_result_is_only_checked_again() -> None:
    undetermined = replace(FAILED, outcome="undetermined")
    assert steps(undetermined) == []
    minute = NOW - timedelta(seconds=60)
    assert steps(replace(undetermined, since=minute, checked_at=minute)) == [("check", 0)]
    assert steps(replace(undetermined, form="quick")) == [("check", 0)]


def test_a_full_form_that_did_not_pass_takes_precedence_over_the_quick_one() -> None:
    quick = replace(FAILED, form="quick", repairs=1)
    assert steps(quick, FAILED) == [("repair", 1)]
    passed = replace(FAILED, outcome="passed", remedy=None)
    assert steps(quick, passed) == [("repair", 2)]
