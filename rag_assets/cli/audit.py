"""`rag audit`: who did what, and the proof that no record was changed. No command changes a record."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rag_assets.cli.confirmation import RemovalDryRunOption, YesOption, confirm
from rag_assets.cli.exit_codes import ExitCode
from rag_assets.cli.output import (
    bars,
    command,
    note,
    out,
    plural,
    print_error,
    print_json,
    progress_lines,
    table,
)
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.identity.audit_anchors import read_anchors
from rag_assets.identity.audit_verification import (
    Connect,
    export_lines,
    verify_database,
    verify_file,
)
from rag_assets.pipeline.audit_record import OUTCOMES, AuditRecord
from rag_assets.pipeline.audit_verification import VerificationResult
from resources.errors import ConfigError
from resources.postgres.identity.audit_chain import append
from resources.postgres.identity.audit_months import drop_months_before
from resources.postgres.identity.audit_queries import (
    EVERYTHING,
    AuditEntry,
    AuditFilters,
    list_records,
)

app = typer.Typer(help="Who did what, and the proof of it.", no_args_is_help=True)

AnchorsOption = Annotated[
    Path | None,
    typer.Option("--anchors", help="File of anchors; default: RAG_AUDIT_ANCHOR_FILE."),
]
#: Problems that are printed; --json has up to 1,000.
SHOWN = 20


@app.command("list")
@command
def list_(
    since: Annotated[str, typer.Option(help="From this time on (ISO 8601, UTC).")] = "",
    until: Annotated[str, typer.Option(help="Before this time.")] = "",
    principal: Annotated[str, typer.Option(help="user:ID, key:ID, owner or anonymous.")] = "",
    action: Annotated[
        str, typer.Option(help="An action, such as user.create, or all of user.")
    ] = "",
    outcome: Annotated[str, typer.Option(help="allowed, denied or failed.")] = "",
    target: Annotated[str, typer.Option(help="What it was done to, such as user:ID.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Records at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the records of the audit, the newest first.

    Example: rag audit list --action auth --outcome denied
    """
    if outcome and outcome not in OUTCOMES:
        raise ConfigError(f"--outcome: expected {', '.join(OUTCOMES)}, found {outcome!r}.")
    filters = AuditFilters(
        _time("--since", since), _time("--until", until), principal, action, outcome, target
    )
    with _connect(_started())() as connection:
        records = list_records(connection, EVERYTHING, filters, limit=limit)
    if as_json:
        print_json({"records": [record._asdict() for record in records]})
        return
    table(
        "",
        ("record", "time", "principal", "action", "outcome", "target", "details"),
        [_row(record) for record in records],
    )


@app.command()
@command
def verify(
    file: Annotated[Path | None, typer.Option(help="An export, instead of the database.")] = None,
    anchors: AnchorsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that no record was edited, removed, inserted or chained again.

    Compares the chain with the anchors outside the database too. Exit code 1 if a problem is found.
    """
    deployment = Deployment.from_environment() if file else _started()
    if anchors is not None and not anchors.is_file():
        raise ConfigError(f"--anchors: expected a file, found none at {anchors}.")
    heads = read_anchors(anchors or deployment.audit_anchor_file)
    with bars(as_json), progress_lines(as_json):
        result = verify_file(file, heads) if file else verify_database(_connect(deployment), heads)
    if result.verified and not file:
        # Commands append without a process that anchors.
        with closing(deployment.audit_anchors()) as written:
            written.write(result.head)
    if as_json:
        print_json(_as_json(result))
    else:
        _show(result)
    if not result.verified:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
@command
def export(
    file: Annotated[Path, typer.Argument(help="The file to write; - is standard output.")],
    as_json: JsonOption = False,
) -> None:
    """Write all records to a file, with everything that another program needs to verify them.

    Example: rag audit export audit.jsonl
    """
    to_stdout = str(file) == "-"
    if to_stdout and as_json:
        raise ConfigError("With --json, name a file: standard output has the JSON document.")
    deployment = _started()
    connect = _connect(deployment)
    record = AuditRecord("audit.export", "allowed", "owner")
    with connect() as connection, connection.transaction():
        append(connection, [record])
    count = -2
    with bars(as_json), progress_lines(as_json), _output(file, to_stdout) as output:
        for line in export_lines(connect):
            output.write(line)
            count += 1
    if as_json:
        print_json({"file": str(file), "records": count})
    elif not to_stdout:
        note(f"{plural(count, 'record')} in {file}")
        note(f"Verify them with: rag audit verify --file {file}")


@app.command()
@command
def drop(
    before: Annotated[str, typer.Option(help="The first month to keep, such as 2026-01.")],
    yes: YesOption = False,
    dry_run: RemovalDryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop old months of the audit, where a law demands it. A record in the chain stands for them.

    The chain still verifies, from the first kept record on. Export it first: rag audit export FILE
    """
    try:
        month = datetime.strptime(before, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(
            f"--before: expected a month, such as 2026-01, found {before!r}."
        ) from None
    connect = _connect(_started())
    with connect() as connection, connection.transaction():
        dropped = drop_months_before(connection, month, "owner", dry_run=True)
    if dropped and not dry_run:
        question = f"Drop the audit's months up to {dropped.months[-1]}, for good?"
        confirm(question, ("audit", "drop", "--before", before), yes=yes, as_json=as_json)
        with connect() as connection, connection.transaction():
            dropped = drop_months_before(connection, month, "owner")
    months = dropped.months if dropped else []
    through = dropped.last.sequence if dropped else 0
    if as_json:
        print_json({"months": months, "through": through, "dry_run": dry_run})
    elif not months:
        out.print(f"No records before {before}.")
    else:
        verb = "Would be dropped" if dry_run else "Dropped"
        out.print(f"{verb}: {', '.join(months)}, records up to {through}.")


def _started() -> Deployment:
    deployment = Deployment.from_environment()
    deployment.start()
    return deployment


def _connect(deployment: Deployment) -> Connect:
    return partial(deployment.postgres().connect, autocommit=True)


def _time(option: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{option}: expected a time, such as 2026-07-31 or 2026-07-31T12:00:00+09:00, found {text!r}."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def _output(file: Path, to_stdout: bool) -> Iterator[Any]:
    if to_stdout:
        yield sys.stdout.buffer
        return
    try:
        # For its owner alone.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            yield output
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}.") from None


def _row(record: AuditEntry) -> tuple[object, ...]:
    details = json.dumps(record.details, ensure_ascii=False) if record.details else ""
    if len(details) > 60:
        details = f"{details[:60]}…"
    return (
        record.sequence,
        f"{record.occurred_at:%Y-%m-%d %H:%M:%S}",
        record.principal,
        record.action,
        record.outcome,
        record.target,
        details,
    )


def _as_json(result: VerificationResult) -> dict[str, Any]:
    return {
        "verified": result.verified,
        "records": result.records,
        "first": result.first,
        "head": {"sequence": result.head.sequence, "hash": result.head.hash.hex()},
        "anchors": {"compared": result.anchors, "last_record": result.last_anchor},
        "dropped": asdict(result.dropped) if result.dropped else None,
        "problem_count": result.problem_count,
        "problems": [asdict(problem) for problem in result.problems],
    }


def _show(result: VerificationResult) -> None:
    for problem in result.problems[:SHOWN]:
        shown_by = " (shown by an anchor)" if problem.by_anchor else ""
        print_error(f"{problem.message}{shown_by}", f"{problem.kind}:")
    if result.problem_count > SHOWN:
        print_error(f"{result.problem_count - SHOWN:,} more; --json names up to 1,000", "problems:")
    if (dropped := result.dropped) is not None:
        out.print(
            f"Records up to {dropped.through} ({', '.join(dropped.months)}) were dropped by {dropped.principal}, "
            f"as record {dropped.sealed_by} says."
        )
    if result.verified:
        head = result.head
        out.print(f"{plural(result.records, 'record')} verified.")
        note(f"head: record {head.sequence}, {head.hash.hex()}")
    if result.anchors:
        note(f"{plural(result.anchors, 'anchor')} compared, up to record {result.last_anchor}.")
    else:
        note("No anchor compared: removed last records and a wholly new chain would not be seen.")
