"""`rag check`: every asset check, as Dagster runs it; a table for people, an exit code for CI."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from rag_assets.cli.output import command, out, print_error, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment, failures
from resources.postgres.consistency.check_results import INCONSISTENCIES

#: Exit codes; 2 is the command line's own, for a wrong option.
FAILED, UNDETERMINED = 1, 3

_STYLES = {"passed": "green", "failed": "bold red", "undetermined": "yellow"}


@command
def check(
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only compare counts and a random sample of rows.")
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
        checks += [_entry(item, key) for item in result.get_asset_check_evaluations()]
    outcomes = {item["outcome"] for item in checks}
    passed = not errors and outcomes <= {"passed"}
    if as_json:
        report: dict[str, Any] = {
            "passed": passed,
            "checks": checks,
            "inconsistencies": _by_inconsistency(checks),
        }
        if errors:
            report["errors"] = [{"step": step, "message": message} for step, message in errors]
        print_json(report)
    else:
        _show(checks, errors)
    if not passed:
        raise typer.Exit(FAILED if errors or "failed" in outcomes else UNDETERMINED)


def _entry(evaluation: Any, partition: str) -> dict[str, Any]:
    metadata = {name: _plain(value.value) for name, value in evaluation.metadata.items()}
    return {
        "asset": evaluation.asset_key.to_user_string(),
        "check": evaluation.check_name,
        "partition": partition,
        "passed": evaluation.passed,
        "outcome": metadata["outcome"],
        "severity": evaluation.severity.value,
        "description": evaluation.description,
        "remedy": metadata.get("remedy"),
        "command": metadata.get("command", ""),
        "inconsistency": metadata.get("inconsistency"),
        "metadata": metadata,
    }


def _by_inconsistency(checks: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return kind of inconsistency -> the checks that did not pass because of it. `ids`: the number of ids found."""
    return {
        kind: [
            {
                "source": item["partition"],
                "check": item["check"],
                "outcome": item["outcome"],
                "sentence": item["description"],
                "remedy": item["remedy"],
                "command": item["command"],
                "ids": item["metadata"].get("found", 0),
            }
            for item in checks
            if item["inconsistency"] == kind
        ]
        for kind in INCONSISTENCIES
    }


def _show(checks: list[dict[str, Any]], errors: list[tuple[str, str]]) -> None:
    if not checks and not errors:
        out.print(
            "There is no source yet, so there is nothing to check. Ingest one with: rag ingest DIR"
        )
        return
    table(
        "Checks",
        ("source", "asset", "check", "result", "finding"),
        [
            (
                item["partition"],
                item["asset"],
                item["check"],
                Text(item["outcome"], _STYLES[item["outcome"]]),
                item["description"],
            )
            for item in checks
        ],
    )
    for step, message in errors:
        print_error(message, f"{step} could not be run:")
    _show_commands(checks)
    counts = {
        "failed": sum(item["outcome"] == "failed" for item in checks),
        "undetermined": sum(item["outcome"] == "undetermined" for item in checks),
        "could not be run": len(errors),
    }
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    out.print(f"{len(checks)} checks, {summary or 'all passed'}")


def _show_commands(checks: list[dict[str, Any]]) -> None:
    """Print each command that fixes something once, with the checks that need it."""
    checks_of_command: dict[str, list[str]] = {}
    for item in checks:
        if item["command"]:
            names = checks_of_command.setdefault(item["command"], [])
            names.append(f"{item['partition']}: {item['check']}")
    for text, names in checks_of_command.items():
        # Not wrapped: users copy the command.
        out.print(f"{text}  # {', '.join(names)}", markup=False, soft_wrap=True)


def _plain(value: Any) -> Any:
    """Return metadata as JSON: a table as a list of records."""
    records = getattr(value, "records", None)
    return [record.data for record in records] if records is not None else value
