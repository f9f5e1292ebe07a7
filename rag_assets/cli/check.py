"""`rag check`: every asset check, as Dagster runs it; for people a table, for CI an exit code."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from rag_assets.cli.output import command, err, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment, failures


@command
def check(
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run every asset check; exit 1 if one fails or could not be run."""
    deployment = Deployment.from_environment()
    deployment.start()
    keys = deployment.partitions_of(source)
    checks: list[dict[str, Any]] = []
    errors: list[tuple[str, str]] = []
    for key in keys:
        result = deployment.execute("check_source", key)
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
    if as_json:
        report: dict[str, Any] = {"passed": passed, "checks": checks}
        if errors:
            report["errors"] = [{"step": step, "message": message} for step, message in errors]
        print_json(report)
    else:
        _show(checks, errors, passed)
    if not passed:
        raise typer.Exit(1)


def _show(checks: list[dict[str, Any]], errors: list[tuple[str, str]], passed: bool) -> None:
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
                else Text("unsure", "yellow"),
                item["description"],
            )
            for item in checks
        ],
    )
    for step, message in errors:
        err.print(f"[bold red]{step} could not be run:[/] ", end="")
        err.print(message, markup=False, soft_wrap=True)
    failed = sum(not item["passed"] for item in checks)
    unrun = f", {len(errors)} could not be run" if errors else ""
    out.print(f"{len(checks)} checks, {f'{failed} failed' if not passed else 'all passed'}{unrun}")


def _plain(value: Any) -> Any:
    """Metadata as JSON: a table as a list of records."""
    records = getattr(value, "records", None)
    return [record.data for record in records] if records is not None else value
