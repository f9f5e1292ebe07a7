"""A user's program is type-checked against the package as an installed one, in pyright's strict mode."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("rag_assets", "resources")

#: Uses every part of the public API; each line that ends in a rule must be rejected by it, and no other line.
PROGRAM = """
import asyncio
from collections.abc import Mapping, Sequence

from rag_assets import (
    AccessScope, Answer, ConfigError, Deployment, Evaluations, Filters, Hit, Holder, RagError, Records, Searcher,
    SearchRequest, Settings, StoreUnavailable, load_settings,
)
from rag_assets.pipeline.vectors import Embeddings, Kind
from rag_assets.search.candidates import Stage
from rag_assets.search.fusion import Fusion
from rag_assets.search.query_vectors import MemoryQueryVectorCache, QueryKey, QueryVectorCache
from rag_assets.search.request import MODES, Mode


class Cache:
    def get(self, key: QueryKey) -> Embeddings | None:
        return None

    def put(self, key: QueryKey, vectors: Embeddings) -> None: ...


def use(searcher: Searcher, mode: Mode, fusion: Fusion) -> None:
    reader = AccessScope("support", frozenset({"handbook"}))
    conditions: Mapping[str, object] = {"tags": ["a", "b"], "created_from": "2024-05-01"}
    request = SearchRequest("text", mode=mode, filters=Filters.of(conditions), radius=0.5)
    hits: list[Hit] = searcher.search(request, reader)
    holders: Sequence[Holder] = hits[0].also_in
    answer: Answer = asyncio.run(searcher.asearch("text", scope=reader))
    stages: Sequence[Stage] = answer.stages
    answers: dict[Mode, Answer] = searcher.answers(request, MODES, reader)
    kinds: tuple[Kind, ...] = searcher.kinds
    caches: list[QueryVectorCache] = [Cache(), MemoryQueryVectorCache()]
    print(holders, stages, answers, kinds, caches, hits[0].score + 1, answer.as_dict()["hits"])
    settings: Settings = load_settings()
    deployment: Deployment = Deployment(settings)
    try:
        evaluations: Evaluations = deployment.evaluations("faq", limit=2)
    except (ConfigError, StoreUnavailable) as error:
        base: RagError = error
        raise SystemExit(str(base))
    rows = deployment.check_results("handbook")
    checks: list[str] = [row.check for row in rows if row.outcome == "failed"]
    again: Records[Hit] = Records(Hit, hits)
    print(len(answer.to_pandas()), len(evaluations.to_pandas()), checks, again[0].title, evaluations[0].queries)
    Deployment(settings).searcher().search("text")  # reportCallIssue
    deployment.evaluations(7)  # reportArgumentType
    rows[0].checked  # reportAttributeAccessIssue
    answer.to_frame()  # reportAttributeAccessIssue
    SearchRequest("text", k="ten")  # reportArgumentType
    SearchRequest("text", mode="psychic")  # reportArgumentType
    SearchRequest("text", filters={"tags": "a"})  # reportArgumentType
    SearchRequest("text", colour="red")  # reportCallIssue
    Filters(source="handbook")  # reportArgumentType
    AccessScope("support", {"handbook"})  # reportArgumentType
    searcher.search(request)  # reportCallIssue
    searcher.answer("text")  # reportCallIssue
    searcher.asearch("text")  # reportCallIssue
    searcher.answers(request, MODES)  # reportCallIssue
    searcher.search("text", reader, k=5)  # reportCallIssue
    hits[0].contents  # reportAttributeAccessIssue
"""


def readme_example() -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    return block[1]


MISSPELT = "from rag_assets import Sercher\nprint(Sercher)\n"

#: (line, rule, message) of a finding.
Finding = tuple[int, str, str]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Finding]]:
    """The findings in each program. One run for all: each reads the types of Dagster, pandas and others again."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "program.py").write_text(readme_example() + PROGRAM, encoding="utf-8")
    (folder / "misspelt.py").write_text(MISSPELT, encoding="utf-8")
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "reportUnusedExpression": False})
    )
    # As a folder on the interpreter's path, the project is what an installed package is: only declared types count.
    answer = subprocess.run(
        [Path(sys.executable).with_name("pyright"), "--outputjson", "-p", folder, "--pythonpath", sys.executable],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )  # fmt: skip
    found: dict[str, list[Finding]] = {"program.py": [], "misspelt.py": []}
    for finding in json.loads(answer.stdout)["generalDiagnostics"]:
        line = finding["range"]["start"]["line"]
        found[Path(finding["file"]).name].append(
            (line, finding.get("rule", ""), finding["message"])
        )
    return found


def test_a_misspelt_public_name_is_an_error(findings: Mapping[str, Sequence[Finding]]) -> None:
    """The lazy imports must not make every name look valid."""
    assert "reportAttributeAccessIssue" in {rule for _, rule, _ in findings["misspelt.py"]}


def test_a_users_program_is_fully_typed(findings: Mapping[str, Sequence[Finding]]) -> None:
    lines = (readme_example() + PROGRAM).splitlines()
    expected = {
        line: rule[1]
        for line, text in enumerate(lines)
        if (rule := re.search(r"# (report\w+)$", text))
    }
    found = findings["program.py"]
    assert {line: rule for line, rule, _ in found} == expected, found
    messages = {line: message for line, _, message in found}
    at = next(line for line, text in enumerate(lines) if 'k="ten"' in text)
    assert '"k" of type "int"' in messages[at]
    at = next(line for line, text in enumerate(lines) if "searcher.search(request)" in text)
    assert 'Argument missing for parameter "scope"' in messages[at]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_marker_of_types_is_installed(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"][package]


def public_signatures() -> Iterator[tuple[str, inspect.Signature]]:
    """The public functions and methods of the room `search`, constructors of dataclasses included."""
    for path in sorted((ROOT / "rag_assets/search").glob("*.py")):
        module = importlib.import_module(f"rag_assets.search.{path.stem}")
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
                continue
            members = vars(value).items() if inspect.isclass(value) else [(name, value)]
            for member, function in members:
                function = getattr(function, "__func__", getattr(function, "fget", function))
                if inspect.isfunction(function) and (member == "__init__" or member[0] != "_"):
                    yield f"{module.__name__}.{name}.{member}", inspect.signature(function)


def test_no_public_signature_accepts_or_returns_anything() -> None:
    signatures = {name: str(signature) for name, signature in public_signatures()}
    assert "rag_assets.search.searcher.Searcher.answer" in signatures
    loose = {name for name, text in signatures.items() if re.search(r"\bAny\b", text)}
    assert {name for name in loose if not name.endswith(".as_dict")} == set()
