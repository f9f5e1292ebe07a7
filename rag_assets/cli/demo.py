"""`rag demo`: what the product does, on documents in seven languages and on servers of its own, in a minute."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from rag_assets.cli.demo_questions import Answered, ask, find, read_questions, show_both
from rag_assets.cli.exit_codes import ExitCode
from rag_assets.cli.output import command, err, is_quiet, is_verbose, out, plural
from rag_assets.cli.publication import publish_requested
from rag_assets.cli.syncs import Report, Syncs
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures
from rag_assets.pipeline import progress
from rag_assets.settings.load import embedder_instead
from rag_assets.settings.stores import data_file, default_home
from resources.errors import RagError
from resources.extras import install_command, is_installed

SOURCE = "demo"


@command
def demo(
    questions: Annotated[
        Path | None, typer.Option(help="Other questions on the demo's documents.", hidden=True)
    ] = None,
) -> None:
    """Show the whole product on documents in seven languages.

    Makes them searchable, answers questions, breaks a row in Milvus, finds
    it, repairs it, syncs again, and changes to a model that finds answers in
    other languages. It has its own servers and files, in the
    folder `demo` of RAG_HOME, and your RAG_ settings do not apply to it.

    Exit code 1 if an answer is wrong, a check does not pass, or the broken
    row is not found and repaired.
    """
    corpus = data_file("demo")
    asked = read_questions(questions or corpus / "questions.json")
    home = _enter_home()
    out.print(
        Text(f"PostgreSQL and Milvus start in {home}, apart from your data.", "dim"), soft_wrap=True
    )
    with _servers(home):
        deployment = Deployment.from_environment()
        with _working("starting PostgreSQL and Milvus"):
            deployment.start(dagster=True)
            _register(deployment, corpus / "corpus")
        first = _ingest(deployment, corpus / "corpus")
        out.print()
        _headline("Questions, each with the sentence found and the expected answer in it marked")
        answers = ask(deployment, asked)
        out.print()
        _headline("A row goes wrong in Milvus: the checks name it, a repair writes it again")
        consistent = _break_and_repair(deployment, answers)
        out.print()
        _headline("The same documents again")
        _ingest_again(deployment, first)
        out.print()
        by_meaning = _by_meaning(deployment, corpus)
    out.print()
    _show_next_steps(home)
    expect_success(consistent, [*answers, *by_meaning])


def expect_success(consistent: bool, answers: Sequence[Answered]) -> None:
    """Exit with code 1 if a part of the demo has failed."""
    if not consistent or not all(answer.is_right for answer in answers):
        raise typer.Exit(ExitCode.FAILED)


# The deployment ---------------------------------------------------------------------------------------------------


def _enter_home() -> Path:
    """Make this process and its children see the demo's home folder, and no other setting of the user."""
    home = Path(os.environ.get("RAG_HOME") or default_home()).expanduser().absolute() / "demo"
    for name in [name for name in os.environ if name.startswith("RAG_")]:
        del os.environ[name]
    os.environ["RAG_HOME"] = str(home)
    return home


@contextmanager
def _servers(home: Path) -> Iterator[None]:
    """Stop the servers at the end, unless the user had started them."""
    from resources.embedded.stack import running, stop

    were_running = bool(running(home))
    try:
        yield
    finally:
        if not were_running:
            with _working("stopping PostgreSQL and Milvus"):
                stop(home)


def _register(deployment: Deployment, corpus: Path) -> None:
    """Register the corpus. If the package was moved since, change the source's folder: its documents are the same."""
    from resources.postgres.registry.sources import add_source, list_sources, update_source

    config = {"path": str(corpus)}
    with deployment.postgres().connect(autocommit=True) as connection:
        source = next((item for item in list_sources(connection) if item.name == SOURCE), None)
        if source is None:
            add_source(connection, SOURCE, "folder", config, None)
        elif source.config != config:
            update_source(connection, replace(source, config=config))
    deployment.sync_partitions()


# The steps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ingest:
    seconds: float
    embedded: int
    written: int


def _ingest(deployment: Deployment, corpus: Path) -> _Ingest:
    from resources.postgres.consistency.counts import count_everything

    files = [file for file in corpus.rglob("*") if file.is_file()]
    languages = sorted({file.relative_to(corpus).parts[0] for file in files})
    formats = sorted({file.suffix.lstrip(".") for file in files})
    _headline(f"Documents in {', '.join(languages)} become searchable")
    done = _sync(deployment)
    with deployment.postgres().connect(autocommit=True) as connection:
        counts = count_everything(connection)
    vectors = sum(counts[kind] for kind in ("dense", "sparse", "multi"))
    _done(
        f"{counts['documents']} documents in {len(languages)} languages and {len(formats)} formats: "
        f"{counts['chunks']} chunks, {vectors} vectors, {done.seconds:.1f} s"
    )
    return done


def _ingest_again(deployment: Deployment, first: _Ingest) -> None:
    again = _sync(deployment)
    before = f"; the first time: {first.seconds:.1f} s" if first.embedded else ""
    _done(
        f"{again.embedded} texts embedded, {again.written} rows written, {again.seconds:.1f} s{before}"
    )


def _by_meaning(deployment: Deployment, corpus: Path) -> Sequence[Answered]:
    """Ask questions whose answers stand in another language: by words, then with a model that knows meanings."""
    questions = read_questions(corpus / "questions-across-languages.json")
    _headline("Questions in another language than their answers: by words, then by meaning")
    if not is_installed("use"):
        _detail(f"The model is not installed: {install_command('use')}")
        return []
    by_words = find(deployment, questions)
    with embedder_instead("use"):
        other = Deployment.from_environment()
        done = _sync(other)
        _done(
            f"model use: {done.embedded} texts embedded, rows checked, then published, "
            f"{done.seconds:.1f} s"
        )
        by_meaning = find(other, questions)
    for before, after in zip(by_words, by_meaning):
        show_both(before, after)
    # As it was before: without RAG_EMBEDDER, `rag` searches the demo's documents by words.
    back = _sync(deployment)
    _done(f"model lexical again: {back.embedded} texts embedded, {back.seconds:.1f} s")
    return by_meaning


def _sync(deployment: Deployment) -> _Ingest:
    started = time.monotonic()
    with _working("ingesting"):
        (report,) = Syncs(deployment, quiet=True).of([SOURCE])
        # After a change of the model, which the end of this demo is.
        publication = publish_requested(deployment) or {}
    seconds = time.monotonic() - started
    problems = [f"{step}: {message}" for step, message in report.errors]
    problems += filter(None, [publication.get("blocked")])
    problems += [f"{item['key']}: {item['reason']}" for item in report.failed_documents]
    if problems:
        raise RagError("The demo's documents could not be ingested:\n  " + "\n  ".join(problems))
    if is_verbose():
        for asset, plan in report.plan.items():
            counts = ", ".join(f"{count} {name}" for name, count in plan.items() if count)
            _detail(f"{asset}: {counts or 'nothing to do'}, {report.seconds[asset]:.1f} s")
    written = sum(_changes(report, name) for name in report.plan if name.endswith("_vectors"))
    return _Ingest(seconds, _changes(report, "chunk_embeddings"), written)


def _changes(report: Report, asset: str) -> int:
    return report.plan[asset]["inserted"] + report.plan[asset]["replaced"]


def _break_and_repair(deployment: Deployment, answers: Sequence[Answered]) -> bool:
    """Overwrite a row behind the product's back, find it, repair it. Returns whether every check said what it must."""
    # A demo that was killed may have left its row broken.
    healthy = _check(deployment) or (_repair(deployment) and _check(deployment))
    hits = list({answer.hit.chunk_id: answer.hit for answer in answers if answer.hit}.values())
    if len(hits) < 2 or not healthy:
        return False
    broken, other = hits[:2]
    row = f"{broken.chunk_id}_dense"
    _overwrite(deployment.endpoints()["milvus"], row, f"{other.chunk_id}_dense")
    _step("✎", "yellow", f"{_short(row)} of {broken.key} gets another row's data")
    found = _check(deployment, broken=row)
    repaired = _repair(deployment)
    return found and repaired and _check(deployment)


def _overwrite(uri: str, row: str, other: str) -> None:
    """Write the data of another row under this id, as a faulty script would: by Milvus's client, past the product."""
    from resources.milvus.driver import MilvusClient

    client = MilvusClient(uri)
    try:
        collection = "dense_collection"
        (data,) = client.get(collection, [other], output_fields=["*"])
        tags = [str(tag) for tag in data["tags"]]
        client.upsert(collection, [{**data, "id": row, "tags": tags}])
    finally:
        client.close()


def _check(deployment: Deployment, *, broken: str = "") -> bool:
    """Run every check. Returns whether all passed, or, with a `broken` row, whether one failed and names the row."""
    with _working("checking every row"):
        result = deployment.execute("check_source", SOURCE)
    checks = [
        (item.check_name, item.passed, item.description or "", item.metadata)
        for item in result.get_asset_check_evaluations()
        # A check of a kind of vectors that is not kept has nothing to check.
        if "applicable" not in item.metadata or item.metadata["applicable"].value
    ]
    if is_verbose():
        for name, passed, description, _ in checks:
            _detail(f"{'✓' if passed else '✗'} {name}: {description}")
    errors = [f"{step}: {message}" for step, message in failures(result)]
    failed = [(name, description, data) for name, passed, description, data in checks if not passed]
    if broken:
        named = [(name, reason) for name, _, data in failed if (reason := _reason(data, broken))]
        for name, reason in named:
            _step("✗", "red", f"{name}: {_short(broken)} is {reason}")
        if not named:
            _step("✗", "bold red", f"no check names {_short(broken)}")
        return bool(named)
    for problem in [*errors, *(f"{name}: {description}" for name, description, _ in failed)]:
        _step("✗", "bold red", problem)
    if not failed and not errors:
        _done(f"{len(checks)} checks, all passed" + ("" if is_verbose() else " (-v lists them)"))
    return not failed and not errors


def _reason(metadata: Mapping[str, Any], row: str) -> str:
    """Return the class under which a check's evidence names the row; empty if it does not."""
    records = metadata["evidence"].value.records if "evidence" in metadata else []
    return next((str(r.data["class"]) for r in records if r.data.get("id") == row), "")


def _repair(deployment: Deployment) -> bool:
    with _working("repairing"):
        result = deployment.execute("repair_drift", SOURCE, {"repair": {"dry_run": False}})
    problems = [message for _, message in failures(result)]
    reports: list[dict[str, Any]] = result.output_for_node("repair") if result.success else []
    if problems or not all(report["clean"] for report in reports):
        _step("✗", "bold red", f"rag repair did not repair it: {'; '.join(problems)}")
        return False
    rows = embedded = 0
    for asset, plan in ((a, p) for report in reports for a, p in report["plan"].items()):
        changes = plan["inserted"] + plan["replaced"]
        rows += changes if asset.endswith("_vectors") else 0
        embedded += changes if asset == "chunk_embeddings" else 0
    _done(
        f"rag repair: {plural(rows, 'row')} written again from Parquet, {embedded} texts embedded"
    )
    return True


# Output -----------------------------------------------------------------------------------------------------------


@contextmanager
def _working(task: str) -> Iterator[None]:
    """Show a spinner with the current task while the block runs, if this is a terminal."""
    if is_quiet() or not err.is_terminal:
        yield
        return
    with err.status(f"{task} …") as status:

        def show(asset: str, _: str, done: int, total: int) -> None:
            status.update(f"{task}: {asset} {done} of {total}")

        with progress.listening(show):
            yield


def _headline(text: str) -> None:
    out.print(Text(text, "bold"), soft_wrap=True)


def _done(text: str) -> None:
    _step("✓", "bold green", text)


def _step(sign: str, style: str, text: str) -> None:
    out.print(Text.assemble(" ", (sign, style), "  ", text), soft_wrap=True)


def _detail(text: str) -> None:
    out.print(Text(f"    {text}", "dim"), soft_wrap=True)


def _short(row: str) -> str:
    """Return a row's id short enough for a line."""
    return f"{row[:8]}…{row[row.index('_') :]}"


def _show_next_steps(home: Path) -> None:
    rag = _typed_command()
    out.print(Text.assemble(("Your documents: ", "bold"), f"{rag} ingest DIR"), soft_wrap=True)
    out.print(Text.assemble(("Then:           ", "bold"), f'{rag} search "TEXT"'), soft_wrap=True)
    out.print(Text.assemble(("Other models:   ", "bold"), f"{rag} models"), soft_wrap=True)
    if is_verbose():
        _detail(f"The demo's data: RAG_HOME={shlex.quote(str(home))} {rag} status")


def _typed_command() -> str:
    """Return how the user starts this `rag` from the present folder, as it must be typed."""
    executable = Path(sys.argv[0]).absolute()
    if not executable.is_file():
        executable = Path(sys.executable).parent / "rag"
    found = shutil.which("rag")
    if found is not None and executable.exists() and executable.samefile(found):
        return "rag"
    here = Path.cwd()
    path = executable.relative_to(here) if executable.is_relative_to(here) else executable
    return shlex.quote(str(path))
