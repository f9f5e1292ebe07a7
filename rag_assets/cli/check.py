"""`rag check`: every asset check, as Dagster runs it; for people a table, for CI an exit code."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from rag_assets.cli.output import command, err, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment, failures

#: Exit codes; 2 is the command line's own, for a wrong option.
FAILED, UNDETERMINED = 1, 3


@command
def check(
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only look at counts and a random sample of rows.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run every asset check.

    Exit code 0: all passed. 1: one failed or could not be run. 3: none failed, but one is undetermined.
    """
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    keys = deployment.partitions_of(source)
    checks: list[dict[str, Any]] = []
    errors: list[tuple[str, str]] = []
    for key in keys:
        result = deployment.execute("check_source_quickly" if quick else "check_source", key)
        errors += failures(result)
        checks += [
            {
                "asset": evaluation.asset_key.to_user_string(),
                "check": evaluation.check_name,
                "partition": key,
                "passed": evaluation.passed,
                "severity": evaluation.severity.value,
                "description": evaluation.description,
                "metadata": {
                    name: _plain(value.value) for name, value in evaluation.metadata.items()
                },
            }
            for evaluation in result.get_asset_check_evaluations()
        ]
    passed = bool(not errors and all(item["passed"] for item in checks))
    failed = errors or any(not i["passed"] and i["severity"] == "ERROR" for i in checks)
    if as_json:
        report: dict[str, Any] = {"passed": passed, "checks": checks}
        if errors:
            report["errors"] = [{"step": step, "message": message} for step, message in errors]
        print_json(report)
    else:
        _show(checks, errors)
    if not passed:
        raise typer.Exit(FAILED if failed else UNDETERMINED)


def _show(checks: list[dict[str, Any]], errors: list[tuple[str, str]]) -> None:
    if not checks and not errors:
        out.print(
            "There is no source yet, so there is nothing to check. Ingest one with: rag ingest DIR"
        )
        return
    passed_mark, failed_mark = Text("passed", "green"), Text("failed", "bold red")
    table(
        "Checks",
        ("source", "asset", "check", "result", "what was found"),
        [
            (
                item["partition"],
                item["asset"],
                item["check"],
                passed_mark
                if item["passed"]
                else failed_mark
                if item["severity"] == "ERROR"
                else Text("undetermined", "yellow"),
                item["description"],
            )
            for item in checks
        ],
    )
    for step, message in errors:
        err.print(f"[bold red]{step} could not be run:[/] ", end="")
        err.print(message, markup=False, soft_wrap=True)
    counts = {
        "failed": sum(not i["passed"] and i["severity"] == "ERROR" for i in checks),
        "undetermined": sum(not i["passed"] and i["severity"] != "ERROR" for i in checks),
        "could not be run": len(errors),
    }
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    out.print(f"{len(checks)} checks, {said or 'all passed'}")


def _plain(value: Any) -> Any:
    """Metadata as JSON: a table as a list of records."""
    records = getattr(value, "records", None)
    return [record.data for record in records] if records is not None else value
