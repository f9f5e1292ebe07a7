"""`rag eval`: measures retrieval with retrieval sets, and shows whether it declined.

Its other commands: `retrieval_sets.py`, `comparison.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rag_assets.cli import comparison, retrieval_sets
from rag_assets.cli.exit_codes import ExitCode, run_exit_code
from rag_assets.cli.output import (
    bars,
    command,
    note,
    out,
    print_error,
    print_json,
    step_errors,
    table,
)
from rag_assets.cli.retrieval_sets import NameArgument
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures
from resources.errors import ConfigError

if TYPE_CHECKING:
    from resources.postgres.evaluation.evaluations import Evaluation

app = typer.Typer(help="Measure retrieval with retrieval sets, and compare evaluations.")
app.command("add")(retrieval_sets.add)
app.command("build")(retrieval_sets.build)
app.command("list")(retrieval_sets.list_)
app.command("remove")(retrieval_sets.remove)
app.command("compare")(comparison.compare)

SetOption = Annotated[str | None, typer.Option("--set", help="Only this retrieval set.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only sets of this source.")]

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

    Example: rag eval run --set known
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
    errors: list[tuple[str, str]] = []
    results = []
    with bars(as_json):
        for key in sorted({item.source for item in sets}):
            ops = {"retrieval_evaluation": {"retrieval_set": name or ""}}
            result = deployment.execute("evaluate_retrieval", key, ops)
            results.append(result)
            errors += failures(result)
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
        print_json(
            {
                "passed": passed,
                "evaluations": shown,
                "checks": checks,
                "errors": step_errors(errors),
            }
        )
    else:
        for evaluation in latest:
            _show(evaluation)
        for check in checks:
            mark = Text("passed ", "green") if check["passed"] else Text("failed ", "bold red")
            out.print(mark.append(check["description"], "default"), soft_wrap=True)
            if not check["passed"]:
                out.print(f"  {check['command']}", markup=False, soft_wrap=True)
        for _, message in errors:
            print_error(message)
    if not passed:
        failed = any(not check["passed"] for check in checks)
        raise typer.Exit(ExitCode.FAILED if failed else run_exit_code(*results))


@app.command()
@command
def accept(
    name: NameArgument,
    evaluation: Annotated[
        int | None, typer.Argument(help="Number of the evaluation; default: the last one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Accept an evaluation of a set as the baseline of later ones. The first one is accepted automatically.

    Example: rag eval accept known 12
    """
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
    if as_json:
        print_json({"set": name, "accepted": number})
        return
    note(f"Evaluation {number} of {name} is accepted.")


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
