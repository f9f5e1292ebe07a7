"""Files with questions for `rag demo`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rag_assets.cli.demo_questions import read_questions
from resources.errors import ConfigError


def test_questions_without_an_answer_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "questions.json"
    question = {"text": "Who?", "language": "en", "expect": "a.md", "answer": ""}
    file.write_text(json.dumps([question]))
    with pytest.raises(ConfigError, match="without an answer to expect: Who"):
        read_questions(file)
    file.write_text('[{"text": "Who?"}]')
    with pytest.raises(ConfigError, match="expected a JSON list of questions"):
        read_questions(file)
