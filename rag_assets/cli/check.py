"""`rag check`: every asset check, as Dagster runs it; a table for people, an exit code for CI."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from rag_assets.cli.exit_codes import ExitCode, run_exit_code
from rag_assets.cli.output import (
    command,
    is_verbose,
    out,
    plural,
    print_error,
    print_json,
    step_errors,
    table,
)
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures
from resources.postgres.consistency.check_results import INCONSISTENCIES

#: Result -> its style, the worst first. "not_applicable": nothing to check, such as a kind that is not kept.
_STYLES = {
    "failed": "bold red",
    "undetermined": "yellow",
    "passed": "green",
    "not_applicable": "dim",
}


@command
def check(
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only compare counts and a random sample of rows.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run every asset check. Shows those that did not pass; with -v all of them.

    Exit code 0: all passed. 1: one failed. 2: an unknown source. 3: none failed, but one is undetermined. 4: PostgreSQL
    or Milvus cannot be reached.
    """
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    keys = deployment.partitions_of(source)
    checks: list[dict[str, Any]] = []
    errors: list[tuple[str, str]] = []
    results = []
    for key in keys:
        result = deployment.execute("check_source_quickly" if quick else "check_source", key)
        results.append(result)
        errors += failures(result)
        checks += [_entry(item, key) for item in result.get_asset_check_evaluations()]
    outcomes = {item["outcome"] for item in checks}
    passed = not errors and outcomes <= {"passed"}
    if as_json:
        report: dict[str, Any] = {
            "passed": passed,
            "summary": _counts(checks, errors),
            "checks": checks,
            "inconsistencies": _by_inconsistency(checks),
        }
        if errors:
            report["errors"] = step_errors(errors)
        print_json(report)
    else:
        _show(checks, errors)
    if "failed" in outcomes:
        raise typer.Exit(ExitCode.FAILED)
    if errors:
        raise typer.Exit(run_exit_code(*results))
    if not passed:
        raise typer.Exit(ExitCode.UNDETERMINED)


def _entry(evaluation: Any, partition: str) -> dict[str, Any]:
    metadata = {name: _plain(value.value) for name, value in evaluation.metadata.items()}
    return {
        "asset": evaluation.asset_key.to_user_string(),
        "check": evaluation.check_name,
        "partition": partition,
        "passed": evaluation.passed,
        "applicable": metadata.get("applicable", True),
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
    if is_verbose():
        table(
            "",
            ("source", "check", "result", "finding"),
            [
                (item["partition"], item["check"], _result_cell(item), item["description"])
                for item in checks
            ],
        )
    else:
        for item in checks:
            if item["outcome"] != "passed":
                out.print(
                    _result_cell(item),
                    Text(f"{item['partition']}: {item['check']}"),
                    soft_wrap=True,
                )
                out.print(Padding(Text(item["description"]), (0, 0, 0, 2), expand=False))
    # One store that is away stops many checks.
    for message in dict.fromkeys(message for _, message in errors):
        steps = [step for step, reason in errors if reason == message]
        shown = steps[0] if len(steps) == 1 else plural(len(steps), "check")
        print_error(message, f"{', '.join(steps) if is_verbose() else shown} could not be run:")
    _show_commands(checks)
    summary = ", ".join(
        f"{count} {name.replace('_', ' ')}"
        for name, count in _counts(checks, errors).items()
        if count
    )
    out.print(f"{plural(len(checks) + len(errors), 'check')}: {summary}", soft_wrap=True)


def _counts(checks: list[dict[str, Any]], errors: list[tuple[str, str]]) -> dict[str, int]:
    """Return result -> number of checks, the worst first."""
    results = [_result(item) for item in checks]
    counts = {result: results.count(result) for result in _STYLES}
    return {"could_not_be_run": len(errors), **counts}


def _result(item: dict[str, Any]) -> str:
    return item["outcome"] if item["applicable"] else "not_applicable"


def _result_cell(item: dict[str, Any]) -> Text:
    return Text(_result(item).replace("_", " "), _STYLES[_result(item)])


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
