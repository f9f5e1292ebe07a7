"""`rag eval`: how good retrieval is, by retrieval sets; and whether it declined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rag_assets.cli.output import bars, command, err, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment, failures
from resources.errors import ConfigError

if TYPE_CHECKING:
    from resources.postgres.evaluation.evaluations import Evaluation

app = typer.Typer(help="Measure retrieval by retrieval sets, and compare.")

SetOption = Annotated[str | None, typer.Option("--set", help="Only this retrieval set.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only sets of this source.")]
NameArgument = Annotated[str, typer.Argument(help="Name of a retrieval set.")]

#: Shown of each mode; --json has all.
SHOWN = (
    "recall@1",
    "recall@5",
    "recall@10",
    "nDCG@10",
    "MRR@10",
    "ANN recall@10",
    "p50 ms",
    "p95 ms",
)


@app.callback(invoke_without_command=True)
@command
def default(
    context: typer.Context,
    name: SetOption = None,
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Without a command: `run`."""
    if context.invoked_subcommand is None:
        evaluate(name, source, as_json)


@app.command()
@command
def run(name: SetOption = None, source: SourceOption = None, as_json: JsonOption = False) -> None:
    """Ask every query of the retrieval sets in every mode, keep what is measured, and check it.

    Exit code 1 where a check fails: below what was accepted, exact neighbours or known items not found.
    """
    evaluate(name, source, as_json)


def evaluate(name: str | None, source: str | None, as_json: bool) -> None:
    from resources.postgres.evaluation.evaluations import evaluations
    from resources.postgres.evaluation.retrieval_sets import get_set, list_sets

    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    deployment.partitions_of(source)
    with deployment.postgres().connect(autocommit=True) as connection:
        sets = [get_set(connection, name)] if name else list_sets(connection, source=source)
    if not sets:
        raise ConfigError(
            "There is no retrieval set yet. From the corpus itself: rag eval build NAME --source SOURCE; "
            "from files: rag eval add NAME --source SOURCE --queries FILE --relevant FILE"
        )
    checks: list[dict[str, Any]] = []
    errors: list[str] = []
    with bars(as_json):
        for key in sorted({each.source for each in sets}):
            ops = {"retrieval_evaluation": {"retrieval_set": name or ""}}
            result = deployment.execute("evaluate_retrieval", key, ops)
            errors += [message for _, message in failures(result)]
            checks += [
                {
                    "check": found.check_name,
                    "source": key,
                    "passed": found.passed,
                    "description": found.description,
                    "mend_with": str(found.metadata["mend_with"].value) if not found.passed else "",
                }
                for found in result.get_asset_check_evaluations()
            ]
    with deployment.postgres().connect(autocommit=True) as connection:
        latest = [found for each in sets for found in evaluations(connection, each.name, limit=1)]
    passed = not errors and all(each["passed"] for each in checks)
    if as_json:
        said = [each.as_dict() for each in latest]
        print_json({"passed": passed, "evaluations": said, "checks": checks, "errors": errors})
    else:
        for each in latest:
            _show(each)
        for check in checks:
            mark = Text("passed ", "green") if check["passed"] else Text("failed ", "bold red")
            out.print(mark.append(check["description"], "default"), soft_wrap=True)
            if not check["passed"]:
                out.print(f"  {check['mend_with']}", markup=False, soft_wrap=True)
        for message in errors:
            err.print(message, markup=False, soft_wrap=True, style="bold red")
    if not passed:
        raise typer.Exit(1)


@app.command()
@command
def add(
    name: NameArgument,
    source: Annotated[str, typer.Option("--source", help="The source that is asked.")],
    queries: Annotated[Path, typer.Option(help="JSON lines with _id and text (BEIR).")],
    relevant: Annotated[
        Path,
        typer.Option(
            help="Tab-separated query-id, corpus-id (a document's key), score; start and end for passages."
        ),
    ],
) -> None:
    """Register a retrieval set from files in BEIR's layout."""
    from rag_assets.pipeline.retrieval_sets import read_judgements, read_queries
    from resources.postgres.evaluation.retrieval_sets import add_set
    from resources.postgres.registry.sources import get_source

    asked = _read(queries, read_queries)
    judged = _read(relevant, lambda lines: read_judgements(lines, asked))
    answered = {each.query for each in judged}
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        found = get_source(connection, source)
        texts = {query: text for query, text in asked.items() if query in answered}
        add_set(connection, name, found, texts, judged)
    without = f", {len(asked) - len(texts)} without an answer left out" if texts != asked else ""
    out.print(f"{name}: {len(texts)} queries of {source}{without}. Measure: rag eval --set {name}")


def _read(path: Path, read: Any) -> Any:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return read(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}:\n  {error}") from error


@app.command()
@command
def build(
    name: NameArgument,
    source: Annotated[str, typer.Option("--source", help="The source that is asked.")],
    queries: Annotated[int, typer.Option(min=1, max=10_000, help="How many, at most.")] = 200,
) -> None:
    """Build a retrieval set from the source itself: of some chunks, a sentence each, by which they should be found."""
    from rag_assets.evaluation.known_items import build_set

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        count = build_set(connection, name, source, queries)
    out.print(f"{name}: {count} queries of {source}. Measure: rag eval --set {name}")


@app.command("list")
@command
def list_(
    name: Annotated[str | None, typer.Argument(help="A set, for its evaluations.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the retrieval sets, or the evaluations of one: their numbers, for `rag eval compare`."""
    from resources.postgres.evaluation.evaluations import evaluations
    from resources.postgres.evaluation.retrieval_sets import get_set, list_sets

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        sets = [get_set(connection, name)] if name else list_sets(connection)
        limit = None if name else 1
        known = {each.name: evaluations(connection, each.name, limit=limit) for each in sets}
    if as_json:
        print_json(
            [
                {
                    "set": each.name,
                    "source": each.source,
                    "queries": each.queries,
                    "known_items": each.known_items,
                    "evaluations": [found.as_dict() for found in known[each.name]],
                }
                for each in sets
            ]
        )
    elif name:
        _show_evaluations(name, known[name])
    else:
        rows = [
            (each.name, each.source, each.queries, "itself" if each.known_items else "files")
            + ((str(known[each.name][0].measured_at)[:16],) if known[each.name] else ("never",))
            for each in sets
        ]
        table("Retrieval sets", ("set", "source", "queries", "from", "measured"), rows)


@app.command()
@command
def accept(
    name: NameArgument,
    evaluation: Annotated[
        int | None, typer.Argument(help="Its number; by default the last one.")
    ] = None,
) -> None:
    """Accept an evaluation of a set: later ones are held against it. The first one is accepted by itself."""
    from resources.postgres.evaluation.evaluations import accept as accept_
    from resources.postgres.evaluation.evaluations import evaluations
    from resources.postgres.evaluation.retrieval_sets import get_set

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        get_set(connection, name)
        numbers = [each.id for each in evaluations(connection, name)]
        number = numbers[0] if evaluation is None and numbers else evaluation
        if number not in numbers:
            said = ", ".join(map(str, numbers[:10])) or f"none; first: rag eval --set {name}"
            raise ConfigError(f"Set {name} has no evaluation {number or ''}; it has: {said}")
        accept_(connection, number)
    out.print(f"Evaluation {number} of {name} is accepted.")


@app.command()
@command
def compare(
    a: Annotated[int, typer.Argument(help="Number of an evaluation.")],
    b: Annotated[int, typer.Argument(help="Number of another one of the same set.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two evaluations of a set, query by query. p: a paired randomisation test, two-sided."""
    from rag_assets.evaluation.quality import differences
    from resources.postgres.evaluation.evaluations import get_evaluation

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        before, after = get_evaluation(connection, a), get_evaluation(connection, b)
    if before.set_name != after.set_name:
        raise ConfigError(
            f"Expected two evaluations of one set; {a} is of {before.set_name}, {b} of {after.set_name}."
        )
    found = differences(before.modes, after.modes, test=True)
    columns = ("mode", "measure", "queries", str(a), str(b), "difference", "p")
    rows = [
        (each.mode, each.measure, each.queries, each.before, each.after, each.change, each.p)
        for each in found
    ]
    if as_json:
        names = (*columns[:3], "before", "after", *columns[5:])
        models = {"before": before.model, "after": after.model}
        print_json(
            {"set": before.set_name, "models": models}
            | {"differences": [dict(zip(names, row)) for row in rows]}
        )
        return
    shown = [
        (*row[:3], *(f"{value:.4f}" for value in row[3:5]), f"{row[5]:+.4f}", f"{row[6]:.4f}")
        for row in rows
    ]
    table(f"{before.set_name}: models {before.model}, {after.model}", columns, shown)


@app.command()
@command
def remove(name: NameArgument) -> None:
    """Remove a retrieval set and what was measured with it."""
    from resources.postgres.evaluation.retrieval_sets import remove_set

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        remove_set(connection, name)
    out.print(f"{name} is removed.")


def _show(found: Evaluation) -> None:
    rows = [
        (mode, *(f"{result.measures[name].value:.3f}" if name in result.measures else "" for name in SHOWN))
        for mode, result in found.modes.items()
    ]  # fmt: skip
    outdated = f", {found.outdated} outdated" if found.outdated else ""
    accepted = ", accepted" if found.accepted_at else ""
    title = f"{found.set_name}: {found.queries} queries{outdated}, evaluation {found.id}{accepted}"
    table(title, ("mode", *SHOWN), rows)


def _show_evaluations(name: str, known: list[Evaluation]) -> None:
    modes = list(dict.fromkeys(mode for each in known for mode in each.modes))
    rows = [
        (
            each.id,
            str(each.measured_at)[:16],
            each.model,
            each.queries,
            "yes" if each.accepted_at else "",
            *(
                f"{each.modes[mode].measures['nDCG@10'].value:.3f}" if mode in each.modes else ""
                for mode in modes
            ),
        )
        for each in known
    ]
    columns = ("evaluation", "measured", "model", "queries", "accepted")
    table(f"Evaluations of {name}", (*columns, *(f"nDCG@10 {mode}" for mode in modes)), rows)
