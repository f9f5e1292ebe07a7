"""The reference is what the code makes of it now, and it names everything that there is."""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

import rag_assets
from rag_assets.cli.exit_codes import ExitCode
from rag_assets.deployment import Deployment
from rag_assets.pipeline.vectors import KINDS
from rag_assets.settings.load import Settings
from resources.milvus.collections import ALIASES, Layout
from resources.milvus.index_config import IndexConfig
from resources.postgres.schema import migrate
from tests.docs.generate import COMMAND, FOLDER, pages
from tests.docs.pages import ROOT
from tests.docs.reference import checks, commands, contract, python, settings, tables
from tests.docs.reference.deviations import DEVIATIONS
from tests.support.check_faults import FAULTS

#: Variables of tests and benchmarks, which inject faults.
FAULT_VARIABLES = {"RAG_FAULT", "RAG_FAULT_SIGNAL"}


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    """A database with nothing but the schema."""
    name = f"reference_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        url = postgres_url.replace("/rag?", f"/{name}?")
        migrate(url)
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.fixture(scope="module")
def generated(database: str) -> Mapping[str, str]:
    return pages(database)


def test_the_committed_reference_is_current(generated: Mapping[str, str]) -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.*")}
    outdated = [name for name in generated if committed.get(name) != generated[name]]
    assert not outdated, f"{', '.join(outdated)}: run {COMMAND}"
    assert set(committed) - {"index.md"} == set(generated)


def first_cells(page: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))


def test_every_setting_has_a_meaning_and_a_row(generated: Mapping[str, str]) -> None:
    page = generated["settings.md"]
    fields = {f"RAG_{name.upper()}": field for name, field in Settings.model_fields.items()}
    assert first_cells(page) == {*fields, *settings.OTHER_VARIABLES}
    assert [
        name for name, field in fields.items() if not (field.description or "").endswith(".")
    ] == []
    # A number without a unit is a number that readers must guess.
    without_unit = {
        name
        for name, field in fields.items()
        if field.annotation in (int, float) and not settings.unit(field)
    }
    assert without_unit == {"RAG_MILVUS_SHARDS"}


def test_every_variable_in_the_code_is_a_setting_or_listed_beside_them() -> None:
    listed = {f"RAG_{name.upper()}" for name in Settings.model_fields}
    sources = [p for top in ("rag_assets", "resources") for p in (ROOT / top).rglob("*.py")]
    read = {
        name
        for path in sources
        for name in re.findall(
            r"(?:environ\.get\(|environ\[|getenv\(|VARIABLE = )\"(RAG_\w+)\"",
            path.read_text(encoding="utf-8"),
        )
    }
    assert "RAG_CREDENTIALS_KEY" in read
    assert read - listed - set(settings.OTHER_VARIABLES) <= FAULT_VARIABLES


def test_every_command_option_and_exit_code_is_described(generated: Mapping[str, str]) -> None:
    page = generated["commands.md"]
    found = commands.commands()
    assert {"rag search", "rag sources add", "rag eval run"} <= set(found)
    titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert titles == ["Exit codes", *found]
    undescribed = [
        f"{path} {name}"
        for path, (command, context) in found.items()
        for name, meaning in commands.records(path, command, context)
        if not meaning.strip()
    ]
    assert undescribed == []
    for code in ExitCode:
        assert f"| {int(code)} | {code.name} |" in page
    callbacks = [found[path][0].callback for path in commands.OUTCOMES]
    described = {Path(inspect.getfile(inspect.unwrap(callback))).stem for callback in callbacks}
    cli = (ROOT / "rag_assets" / "cli").glob("*.py")
    ending = {path.stem for path in cli if "raise typer.Exit(" in path.read_text("utf-8")}
    # `output` ends with the code of an error, `preview` is a part of `ingest`.
    assert described == ending - {"output", "preview"}
    # "Every command has these": those listed once are nowhere missing.
    for path, (command, context) in found.items():
        options = {option for parameter in command.get_params(context) for option in parameter.opts}
        assert hasattr(command, "commands") or options >= commands.COMMON, path


def test_every_table_and_column_has_a_comment(generated: Mapping[str, str], database: str) -> None:
    columns = tables.columns(database)
    assert len({column.relation for column in columns}) > 25
    assert [c.relation for c in columns if not c.relation_comment] == []
    assert [f"{c.relation}.{c.name}" for c in columns if not c.comment] == []
    titles = set(re.findall(r"^## (.+)$", generated["tables.md"], re.MULTILINE))
    assert titles >= {column.relation for column in columns} | set(ALIASES.values())


def test_every_deviation_from_the_reference_schema_is_listed(database: str) -> None:
    """And none is listed that does not exist any more."""
    defaults = Settings(milvus_uri="http://127.0.0.1:19530", _env_file=None)  # pyright: ignore[reportCallIssue]
    embedder = Deployment(defaults).embedder
    indexes = IndexConfig(defaults.dense_index, defaults.sparse_index, defaults.dense_search)
    layouts: list[Layout] = [indexes.layout(kind, embedder) for kind in KINDS]
    shown = [f"{i.relation} {tables.shown_index(i.definition)}" for i in tables.indexes(database)]
    differences = contract.table_differences(tables.columns(database), shown)
    differences |= contract.collection_differences(layouts)
    assert differences == {text for item in DEVIATIONS for text in item.differences}
    # Those values that are no types: as the reference has them, or as the list explains.
    assert defaults.dense_index["params"] == {"M": 16, "efConstruction": 256}
    assert defaults.dense_search == {"ef": 128} and defaults.search_limit == 100
    assert defaults.sparse_index["params"] == {"drop_ratio_build": 0.2}
    assert (defaults.milvus_shards, defaults.milvus_timeout) == (2, 30)
    embedded = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    assert embedded.dense_search == {"nprobe": 64, "candidates": 1000}
    assert {"nprobe 64", "Bounded"} <= set(
        re.findall(r"nprobe \d+(?= \()|Bounded", " ".join(item.here for item in DEVIATIONS))
    )


def test_every_check_has_a_section_and_every_injected_fault_a_row(
    generated: Mapping[str, str],
) -> None:
    found = checks.checks()
    assert {checks.family(check.name) for check in found} == set(checks.CASES)
    named = set(re.findall(r"`(\w+)`|^## (\w+)$", generated["checks.md"], re.MULTILINE))
    assert {check.name for check in found} <= {name for pair in named for name in pair}
    assert [check.name for check in found if not check.fact.endswith(".")] == []
    missing = {
        (check, inconsistency, fault.remedy)
        for fault in FAULTS.values()
        for check, inconsistency in fault.fails.items()
        if not any(
            (case.inconsistency, case.remedy) == (inconsistency, fault.remedy)
            for case in checks.CASES[checks.family(check)]
        )
    }
    assert missing == set()


def test_every_public_name_has_a_docstring(generated: Mapping[str, str]) -> None:
    titles = re.findall(r"^## (.+)$", generated["python.md"], re.MULTILINE)
    assert set(rag_assets.__all__) < set(titles)
    undocumented = [
        f"{name}.{signature}"
        for name in rag_assets.__all__
        if isinstance(value := getattr(rag_assets, name), type)
        for signature, text in python.members(value, python.MEMBERS.get(name))
        if not text
    ]
    assert undocumented == []


def test_the_pages_name_no_path_of_this_machine(generated: Mapping[str, str]) -> None:
    for content in generated.values():
        assert str(ROOT) not in content and str(Path.home()) not in content
