"""`rag demo` in a home of its own: what it shows, how it judges, and that it touches nothing of the user."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import typer
from rich.cells import cell_len

from rag_assets.cli.demo import expect_success
from rag_assets.cli.demo_questions import ask, read_questions
from rag_assets.cli.output import out
from rag_assets.deployment import Deployment
from rag_assets.settings.load import Settings
from rag_assets.settings.stores import data_file
from resources.embedded.stack import running, stop
from resources.errors import ConfigError
from tests.support.rag import Rag, deployment

QUESTIONS = data_file("demo") / "questions.json"
#: Stores and settings of a user, which must not be used: none of them would work.
OF_THE_USER = {
    "RAG_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "RAG_MILVUS_URI": "http://127.0.0.1:1",
    "RAG_STORAGE_URL": "/proc/nothing",
    "RAG_EMBEDDER": "no.module:Class",
    "RAG_VECTORS": "dense,sparse,multi",
}


@pytest.fixture(scope="module")
def rag() -> Iterator[Rag]:
    with deployment() as rag:
        try:
            yield rag
        finally:
            stop(rag.home / "demo")


@pytest.fixture(scope="module")
def first(rag: Rag) -> CompletedProcess[str]:
    return rag("demo", COLUMNS="80", **OF_THE_USER)


def test_the_demo_fits_on_a_screen_and_shows_each_answer(
    rag: Rag, first: CompletedProcess[str]
) -> None:
    assert first.returncode == 0, first.stdout + first.stderr
    lines = first.stdout.splitlines()
    assert len(lines) < 40
    assert [line for line in lines if cell_len(line) > 80 and str(rag.home) not in line] == []
    questions = read_questions(QUESTIONS)
    assert len({question.language for question in questions}) == 7
    for question in questions:
        at = next(n for n, line in enumerate(lines) if question.text in line)
        assert lines[at + 1].startswith(" ✓") and question.answer in lines[at + 1]


def test_a_row_that_was_overwritten_is_named_and_repaired(first: CompletedProcess[str]) -> None:
    shown = [line.strip() for line in first.stdout.splitlines()]
    passed = [line for line in shown if re.search(r"\d+ checks, all passed", line)]
    (overwritten,) = [line for line in shown if line.startswith("✎")]
    named = [line for line in shown if line.startswith("✗")]
    (repaired,) = [line for line in shown if "rag repair: 1 row" in line]
    row = overwritten.split()[1]
    assert named == [
        f"✗  dense_vectors_are_sound: {row} is unsound",
        f"✗  dense_vectors_match_postgres: {row} is stale",
    ]
    order = [shown.index(line) for line in (passed[0], overwritten, *named, repaired)]
    assert order == sorted(order) and len(passed) == 2
    assert any("0 texts embedded, 0 rows written" in line for line in shown)


def test_the_demo_leaves_no_server_and_nothing_outside_its_home(
    rag: Rag, first: CompletedProcess[str]
) -> None:
    assert first.returncode == 0
    assert [path.name for path in rag.home.iterdir()] == ["demo"]
    assert running(rag.home / "demo") == {}


def test_a_wrong_answer_has_a_cross_and_exit_code_1(
    rag: Rag,
    first: CompletedProcess[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the stores of the first demo: a whole second one takes a minute on a busy machine."""
    questions = json.loads(QUESTIONS.read_text(encoding="utf-8"))[:3]
    # The right document, but not the right sentence; the right sentence, but another document; and a right one.
    questions[0]["answer"] = "lost observing time"
    questions[1]["expect"] = "en/glossary.txt"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(questions), encoding="utf-8")
    monkeypatch.setattr(out, "width", 80)
    deployment = Deployment(Settings(home=rag.home / "demo"))
    deployment.start()
    answers = ask(deployment, read_questions(wrong))
    lines = capsys.readouterr().out.splitlines()
    signs = [
        lines[lines.index(line) + 1][:2] for q in questions for line in lines if q["text"] in line
    ]
    assert signs == [" ✗", " ✗", " ✓"]
    assert "    expected “lost observing time” in en/incident-report-dome-ice.pdf" in lines
    expect_success(True, answers[2:])
    for consistent, shown in ((True, answers), (False, answers[2:])):
        with pytest.raises(typer.Exit) as ended:
            expect_success(consistent, shown)
        assert ended.value.exit_code == 1


@pytest.mark.soak
def test_a_second_demo_finds_its_documents_as_they_were(
    rag: Rag, first: CompletedProcess[str], tmp_path: Path
) -> None:
    questions = json.loads(QUESTIONS.read_text(encoding="utf-8"))[:3]
    questions[0]["answer"] = "lost observing time"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(questions), encoding="utf-8")
    done = rag("demo", "--questions", str(wrong))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "expected “lost observing time” in en/incident-report-dome-ice.pdf" in done.stdout
    assert "0 texts embedded" in done.stdout and "the first time" not in done.stdout


def test_questions_without_an_answer_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "questions.json"
    question = {"text": "Who?", "language": "en", "expect": "a.md", "answer": ""}
    file.write_text(json.dumps([question]))
    with pytest.raises(ConfigError, match="without an answer to expect: Who"):
        read_questions(file)
    file.write_text('[{"text": "Who?"}]')
    with pytest.raises(ConfigError, match="expected a JSON list of questions"):
        read_questions(file)
