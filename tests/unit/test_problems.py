"""Errors as answers: everything wrong is in the list, with its place."""

from __future__ import annotations

import json

import pytest

from rag_assets.serving.problems import answer_to
from resources.errors import ConfigError


@pytest.mark.parametrize(
    ("error", "detail", "pointers"),
    [
        ("email: no @\nusername: empty", "email: no @; username: empty", ["/email", "/username"]),
        ("Cannot search:\n  filters.tags: long", "Cannot search: filters.tags: long", ["/filters/tags"]),
        ("There is no alias. See: rag status", "There is no alias. See: rag status", [""]),
    ],
)  # fmt: skip
def test_every_line_of_an_error_is_listed(error: str, detail: str, pointers: list[str]) -> None:
    answer = json.loads(bytes(answer_to("an-id", ConfigError(error)).body))
    assert answer["detail"] == detail
    assert [item["pointer"] for item in answer["errors"]] == pointers
