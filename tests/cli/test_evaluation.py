"""`rag eval` and `rag index` as users and CI run them. One stack for the module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rag import Rag, emptied
from tests.support.texts import page


@pytest.fixture(scope="module")
def rag(running_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rag]:
    docs = tmp_path_factory.mktemp("files") / "docs"
    docs.mkdir()
    for n in range(120):
        (docs / f"{n}.md").write_text(page(n))
    with emptied(running_home) as rag:
        rag.ok("ingest", str(docs))
        yield rag


def test_a_set_built_from_the_corpus_is_measured_compared_and_accepted_and_notices_lost_rows(
    rag: Rag,
) -> None:
    done = rag("eval")
    assert done.returncode == 2
    assert "rag eval build NAME --source SOURCE" in done.stderr
    built = rag.ok("eval", "build", "known", "--source", "docs", "--queries", "30")
    assert "known: 30 queries of docs" in built
    first = rag.json("eval")
    assert first["passed"] is True
    assert {check["check"] for check in first["checks"]} == {
        "retrieval_quality_is_kept",
        "indexes_find_nearest_neighbours",
        "known_items_are_found",
    }
    (evaluation,) = first["evaluations"]
    assert (evaluation["set"], evaluation["source"], evaluation["queries"]) == ("known", "docs", 30)
    assert set(evaluation["modes"]["hybrid"]["nDCG@10"]) == {"value", "lower", "upper"}

    # Rows are lost: the evaluation fails, and names a command.
    with rag.milvus() as client:
        rows = client.query("dense_collection", filter='id >= ""', output_fields=["*"], limit=500)
        gone = [dict(row) for row in rows[::5]]
        client.delete("dense_collection", ids=[row["id"] for row in gone])
        try:
            done = rag("eval", "--set", "known")
        finally:
            client.upsert("dense_collection", gone)
    assert done.returncode == 1
    assert "failed docs: " in done.stdout
    assert "rag check --source docs" in done.stdout
    output = rag.ok("eval", "run", "--set", "known")
    assert "hybrid" in output and "docs: 1 sets, no measure is more than 0.03 below" in output

    (listed,) = rag.json("eval", "list")["sets"]
    (known,) = rag.json("eval", "list", "known")["sets"]
    last, worse, _ = (item["id"] for item in known["evaluations"])
    assert listed["set"] == "known" and listed["evaluations"][0]["id"] == last
    compared = rag.json("eval", "compare", str(evaluation["id"]), str(last))
    assert {item["difference"] for item in compared["differences"]} == {0}
    assert {item["p"] for item in compared["differences"]} == {1}
    assert f"Evaluation {last} of known is accepted" in rag.ok("eval", "accept", "known")
    done = rag("eval", "accept", "known", "999")
    assert done.returncode == 2
    has = f"it has: {last}, {worse}, {evaluation['id']}"
    assert f"Set known has no evaluation 999; {has}" in done.stderr
    done = rag("eval", "compare", str(last), "999")
    assert done.returncode == 2 and "There is no evaluation 999" in done.stderr

    # Nobody can answer a question here.
    done = rag("eval", "remove", "known")
    assert done.returncode == 2
    assert "30 queries, 3 evaluations" in done.stderr
    assert "rag eval remove known --yes" in done.stderr
    assert rag.json("eval", "remove", "known", "--dry-run")["removed"] is False
    assert rag.json("eval", "remove", "known", "--yes")["removed"] is True


def test_files_are_added_and_mistakes_are_named(rag: Rag, tmp_path: Path) -> None:
    queries, relevant = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    lines = [{"_id": f"q{n}", "text": page(n).split("\n")[2][:60]} for n in range(12)]
    queries.write_text("".join(json.dumps(line) + "\n" for line in lines))
    relevant.write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\t{n}.md\t1\n" for n in range(10))
    )
    options = ("--source", "docs", "--queries", str(queries), "--relevant", str(relevant))
    added = rag.ok("eval", "add", "files", *options)
    assert "files: 10 queries of docs, 2 without an answer left out" in added
    evaluation = rag.json("eval", "--set", "files")["evaluations"][0]
    assert evaluation["modes"]["sparse"]["recall@10"]["value"] == 1
    mistakes = [
        (("eval", "add", "files", *options), "There is a retrieval set 'files' already"),
        (("eval", "add", "x", *options[:5], str(queries)), "line 1: expected the columns query-id"),
        (("eval", "add", "x", "--source", "nowhere", *options[2:]), "There is no source 'nowhere'"),
        (("eval", "--set", "nothing"), "There is no retrieval set 'nothing'; known: files"),
        (("eval", "build", "y", "--source", "nowhere"), "There is no source 'nowhere'"),
    ]
    for arguments, expected in mistakes:
        done = rag(*arguments)
        assert done.returncode == 2
        assert expected in done.stderr
        assert "Traceback" not in done.stderr


def test_the_models_are_listed_with_their_speed_here(rag: Rag) -> None:
    done = rag("models")
    assert done.returncode == 0, done.stderr
    assert "lexical  configured" in done.stdout
    assert "Measured once it is configured." in done.stdout
    models = {model["name"]: model for model in rag.json("models", "--no-measure")["models"]}
    assert list(models) == [
        *("lexical", "use", "e5", "sentence-transformers", "bge-m3", "openai"),
    ]
    assert models["lexical"]["dimension"] == 1024 and models["lexical"]["speed"] is None
    assert all(m["installed"] or m["install"] for m in models.values())


def test_two_models_are_compared_on_a_sets_questions_and_the_other_one_leaves_nothing_in_milvus(
    rag: Rag,
) -> None:
    rag.ok("eval", "build", "own", "--source", "docs", "--queries", "20")
    other = "tests.support.embedders:CountingEmbedder"
    serving = rag.json("status")["embedder"]["fingerprint"]

    compared = rag.json("eval", "compare", "lexical", other, "--set", "own")

    assert compared["models"]["lexical"]["fingerprint"] == serving
    assert compared["models"][other]["dimension"] == 64
    ndcg = {d["mode"]: d for d in compared["differences"] if d["measure"] == "nDCG@10"}
    # Its vectors are random, and lexical finds a sentence by its words.
    assert ndcg["dense"]["queries"] == 20
    assert ndcg["dense"]["before"] > 0.9 and ndcg["dense"]["after"] < 0.6
    assert ndcg["dense"]["p"] < 0.01
    with rag.milvus() as client:
        assert all(serving in str(name) for name in client.list_collections())  # pyright: ignore
    (listed,) = rag.json("eval", "list", "own")["sets"]
    assert listed["evaluations"] == []
    assert rag.json("ingest")["sources"][0]["plan"]["chunk_embeddings"]["kept"] == 120
    assert rag("check").returncode == 0

    done = rag("eval", "compare", "lexical", "7")
    assert done.returncode == 2 and "the names: rag models" in done.stderr
    done = rag("eval", "compare", "lexical", "none")
    assert done.returncode == 2 and "embedder 'none': expected one of" in done.stderr
    rag.ok("eval", "remove", "own", "--yes")


def test_an_index_is_tuned_the_choice_is_written_and_others_are_compared(
    rag: Rag, tmp_path: Path
) -> None:
    plot = tmp_path / "plot.svg"
    tune = ("index", "tune", "--source", "docs", "--queries", "10")
    # 120 rows: exact search is fast enough, and a gain is noise.
    advised = rag.json(*tune, "--write")
    assert "exact search is fast enough at 120 rows" in advised["advice"]
    assert advised["written"] is False and not (rag.home / "settings.env").exists()
    tuned = rag.json(*tune, "--write", "--force", "--plot", str(plot))
    # The last trial searches every list.
    assert tuned["trials"][-1]["search"]["nprobe"] == 128
    assert tuned["trials"][-1]["recall@10"] == 1
    assert tuned["written"] and tuned["recall_reached"] and "<svg" in plot.read_text()
    written = (rag.home / "settings.env").read_text()
    assert written == f"RAG_DENSE_SEARCH='{json.dumps(tuned['chosen']['search'])}'\n"
    done = rag("index", "tune", "--write", RAG_DENSE_SEARCH='{"nprobe": 8}')
    assert done.returncode == 2 and "Unset it there first" in done.stderr
    (rag.home / "settings.env").unlink()
    compared = rag.json("index", "compare", "--types", "FLAT", "--queries", "10", "--rows", "100")
    (flat,) = compared["indexes"]
    assert 80 <= flat["rows"] <= 120 and flat["chosen"]["recall@10"] == 1
    with rag.milvus() as client:
        names: Any = client.list_collections()
        assert not [name for name in names if "trial" in name]
    done = rag("index", "compare", "--types", "SCANN")
    assert done.returncode == 2 and "Milvus Lite has FLAT" in done.stderr
    recommend = ("index", "recommend", "--rows", "1000000", "--memory")
    found = rag.json(*recommend, "16GiB", "--latency-ms", "50")
    assert found["recommended"]["index_type"] == "HNSW"
    done = rag(*recommend, "1GiB")
    assert done.returncode == 2 and "DISKANN" in done.stdout and "No index" in done.stderr
    assert "such as 16GiB, found 'much'" in rag(*recommend, "much").stderr
