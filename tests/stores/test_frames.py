"""Check results and evaluations as data frames, as a program reads them from a deployment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rag_assets import ConfigError, Deployment, Settings
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import CheckRecord, record_results
from resources.postgres.evaluation.evaluations import Measure, ModeResult, record_evaluation
from resources.postgres.queries import scalar
from tests.support.rows import new_source

PASSED = CheckRecord(
    "docs", "documents", "statuses_agree", "full", "passed", "All is well.", None, "", None, "", 0
)


@pytest.fixture
def deployment(postgres_url: str, tmp_path: Path) -> Deployment:
    settings = Settings(postgres_url=postgres_url, home=tmp_path, _env_file=None)  # pyright: ignore[reportCallIssue]
    return Deployment(settings)


def test_check_results_are_a_frame(connection: Connection, deployment: Deployment) -> None:
    assert list(deployment.check_results().to_pandas()["check"]) == []
    new_source(connection)
    new_source(connection, "other")
    record_results(connection, [PASSED], "run")
    frame = deployment.check_results("docs").to_pandas()
    assert frame[["source", "check", "outcome"]].values.tolist() == [
        ["docs", "statuses_agree", "passed"]
    ]
    assert str(frame["checked_at"].dtype) == "datetime64[us, UTC]"
    assert frame["remedy"].isna().tolist() == [True] and frame["repairs"].tolist() == [0]
    assert len(deployment.check_results("other")) == 0
    with pytest.raises(ConfigError, match="nothere"):
        deployment.check_results("nothere")


def test_evaluations_are_frames(connection: Connection, deployment: Deployment) -> None:
    source = new_source(connection)
    for number, name in enumerate(("faq", "faq", "names")):
        set_id = scalar(
            connection,
            """INSERT INTO retrieval_sets (source_id, name, known_items) VALUES (%s, %s, false)
               ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id""",
            [source.id, name],
        )
        measures = {"nDCG@10": Measure(0.5 + number / 10, 0.4, 0.9), "p50 ms": Measure(3.0)}
        ranks, ndcg = np.array([1, 0], np.int32), np.array([1.0, 0.0])
        result = ModeResult("hybrid", measures, ["q1", "q2"], ranks, ndcg)
        record_evaluation(connection, set_id, "run", "model", [result], 2, 0)

    evaluations = deployment.evaluations("faq")
    frame = evaluations.to_pandas()
    assert len(evaluations) == 2 and evaluations[0].id > evaluations[1].id
    assert frame[["mode", "measure", "value"]].values.tolist() == [
        ["hybrid", "nDCG@10", 0.6], ["hybrid", "p50 ms", 3.0],
        ["hybrid", "nDCG@10", 0.5], ["hybrid", "p50 ms", 3.0],
    ]  # fmt: skip
    assert frame["lower"].isna().tolist() == [False, True, False, True]
    # The first of a set is accepted at once.
    assert frame["accepted_at"].isna().tolist() == [True, True, False, False]
    assert evaluations.to_arrow().num_rows == 4
    assert len(evaluations.query_results) == 0

    newest = deployment.evaluations(limit=1, queries=True)
    assert newest.query_results.to_pandas()[["set_name", "query_id", "rank", "ndcg"]].values.tolist() == [
        ["names", "q1", 1, 1.0], ["names", "q2", 0, 0.0]
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="nothere"):
        deployment.evaluations("nothere")
