"""`rag eval`: measures retrieval with retrieval sets, and shows whether it declined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rag_assets.cli.output import bars, command, out, print_error, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment, failures
from resources.errors import ConfigError

if TYPE_CHECKING:
    from resources.postgres.evaluation.evaluations import Evaluation

app = typer.Typer(help="Measure retrieval with retrieval sets, and compare evaluations.")

SetOption = Annotated[str | None, typer.Option("--set", help="Only this retrieval set.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only sets of this source.")]
NameArgument = Annotated[str, typer.Argument(help="Name of a retrieval set.")]

#: The measures shown per mode; --json has all.
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
    """Without a command: the same as `run`."""
    if context.invoked_subcommand is None:
        evaluate(name, source, as_json)


@app.command()
@command
def run(name: SetOption = None, source: SourceOption = None, as_json: JsonOption = False) -> None:
    """Run every query of the retrieval sets in every mode, record the measures, and check them.

    Exit code 1 if a check fails: below the accepted evaluation, or nearest neighbours or known items not found.
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
            "There is no retrieval set yet. Build one from the corpus: rag eval build NAME --source SOURCE; "
            "or add one from files: rag eval add NAME --source SOURCE --queries FILE --relevant FILE"
        )
    checks: list[dict[str, Any]] = []
    errors: list[str] = []
    with bars(as_json):
        for key in sorted({item.source for item in sets}):
            ops = {"retrieval_evaluation": {"retrieval_set": name or ""}}
            result = deployment.execute("evaluate_retrieval", key, ops)
            errors += [message for _, message in failures(result)]
            checks += [
                {
                    "check": check.check_name,
                    "source": key,
                    "passed": check.passed,
                    "description": check.description,
                    "command": "" if check.passed else str(check.metadata["command"].value),
                }
                for check in result.get_asset_check_evaluations()
            ]
    with deployment.postgres().connect(autocommit=True) as connection:
        latest = [last for item in sets for last in evaluations(connection, item.name, limit=1)]
    passed = not errors and all(check["passed"] for check in checks)
    if as_json:
        shown = [evaluation.as_dict() for evaluation in latest]
        print_json({"passed": passed, "evaluations": shown, "checks": checks, "errors": errors})
    else:
        for evaluation in latest:
            _show(evaluation)
        for check in checks:
            mark = Text("passed ", "green") if check["passed"] else Text("failed ", "bold red")
            out.print(mark.append(check["description"], "default"), soft_wrap=True)
            if not check["passed"]:
                out.print(f"  {check['command']}", markup=False, soft_wrap=True)
        for message in errors:
            print_error(message)
    if not passed:
        raise typer.Exit(1)


@app.command()
@command
def add(
    name: NameArgument,
    source: Annotated[str, typer.Option("--source", help="The source to search.")],
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

    texts = _read(queries, read_queries)
    judgements = _read(relevant, lambda lines: read_judgements(lines, texts))
    judged = {judgement.query for judgement in judgements}
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        kept = {query: text for query, text in texts.items() if query in judged}
        add_set(connection, name, get_source(connection, source), kept, judgements)
    dropped = f", {len(texts) - len(kept)} without an answer left out" if kept != texts else ""
    out.print(f"{name}: {len(kept)} queries of {source}{dropped}. Measure: rag eval --set {name}")


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
    source: Annotated[str, typer.Option("--source", help="The source to search.")],
    queries: Annotated[
        int, typer.Option(min=1, max=10_000, help="Maximum number of queries.")
    ] = 200,
) -> None:
    """Build a retrieval set from the source: a sentence of some of its chunks, which must find the chunk."""
    from rag_assets.evaluation.known_items import build_set

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        count = build_set(connection, name, source, queries)
    out.print(f"{name}: {count} queries of {source}. Measure: rag eval --set {name}")


@app.command("list")
@command
def list_(
    name: Annotated[str | None, typer.Argument(help="A set, to list its evaluations.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the retrieval sets, or the evaluations of one with their numbers, for `rag eval compare`."""
    from resources.postgres.evaluation.evaluations import evaluations
    from resources.postgres.evaluation.retrieval_sets import get_set, list_sets

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        sets = [get_set(connection, name)] if name else list_sets(connection)
        limit = None if name else 1
        by_set = {item.name: evaluations(connection, item.name, limit=limit) for item in sets}
    if as_json:
        print_json(
            [
                {
                    "set": item.name,
                    "source": item.source,
                    "queries": item.queries,
                    "known_items": item.known_items,
                    "evaluations": [evaluation.as_dict() for evaluation in by_set[item.name]],
                }
                for item in sets
            ]
        )
    elif name:
        _show_evaluations(name, by_set[name])
    else:
        rows = [
            (item.name, item.source, item.queries, "corpus" if item.known_items else "files")
            + ((str(by_set[item.name][0].measured_at)[:16],) if by_set[item.name] else ("never",))
            for item in sets
        ]
        table("Retrieval sets", ("set", "source", "queries", "from", "measured"), rows)


@app.command()
@command
def accept(
    name: NameArgument,
    evaluation: Annotated[
        int | None, typer.Argument(help="Number of the evaluation; default: the last one.")
    ] = None,
) -> None:
    """Accept an evaluation of a set as the baseline of later ones. The first one is accepted automatically."""
    from resources.postgres.evaluation.evaluations import accept_evaluation, evaluations
    from resources.postgres.evaluation.retrieval_sets import get_set

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        get_set(connection, name)
        numbers = [item.id for item in evaluations(connection, name)]
        number = numbers[0] if evaluation is None and numbers else evaluation
        if number not in numbers:
            existing = (
                ", ".join(map(str, numbers[:10])) or f"none; measure with: rag eval --set {name}"
            )
            raise ConfigError(f"Set {name} has no evaluation {number or ''}; it has: {existing}")
        accept_evaluation(connection, number)
    out.print(f"Evaluation {number} of {name} is accepted.")


@app.command()
@command
def compare(
    a: Annotated[int, typer.Argument(help="Number of an evaluation.")],
    b: Annotated[int, typer.Argument(help="Number of another evaluation of the same set.")],
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
    columns = ("mode", "measure", "queries", str(a), str(b), "difference", "p")
    rows = [
        (d.mode, d.measure, d.queries, d.before, d.after, d.change, d.p)
        for d in differences(before.modes, after.modes, test=True)
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
    """Remove a retrieval set and its evaluations."""
    from resources.postgres.evaluation.retrieval_sets import remove_set

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        remove_set(connection, name)
    out.print(f"{name} is removed.")


def _show(evaluation: Evaluation) -> None:
    rows = [
        (mode, *(f"{result.measures[name].value:.3f}" if name in result.measures else "" for name in SHOWN))
        for mode, result in evaluation.modes.items()
    ]  # fmt: skip
    outdated = f", {evaluation.outdated} outdated" if evaluation.outdated else ""
    accepted = ", accepted" if evaluation.accepted_at else ""
    queries = f"{evaluation.queries} queries{outdated}"
    title = f"{evaluation.set_name}: {queries}, evaluation {evaluation.id}{accepted}"
    table(title, ("mode", *SHOWN), rows)


def _show_evaluations(name: str, measured: list[Evaluation]) -> None:
    modes = list(dict.fromkeys(mode for evaluation in measured for mode in evaluation.modes))
    rows = [
        (
            row.id,
            str(row.measured_at)[:16],
            row.model,
            row.queries,
            "yes" if row.accepted_at else "",
            *(
                f"{row.modes[mode].measures['nDCG@10'].value:.3f}" if mode in row.modes else ""
                for mode in modes
            ),
        )
        for row in measured
    ]
    columns = ("evaluation", "measured", "model", "queries", "accepted")
    table(f"Evaluations of {name}", (*columns, *(f"nDCG@10 {mode}" for mode in modes)), rows)
