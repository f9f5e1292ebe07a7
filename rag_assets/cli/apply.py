"""`rag sources apply FILE`: makes the sources match a YAML file; shows the plan, then applies it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag_assets.cli.confirmation import YesOption, confirm
from rag_assets.cli.output import command, note, print_json, table
from rag_assets.cli.source_removal import contents, count_contents, remove_sources
from rag_assets.cli.sources import register
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.principal import Principal

if TYPE_CHECKING:
    from rag_assets.operations.source_specs import Change


@command
def apply(
    file: Annotated[Path, typer.Argument(help="YAML: sources, each with name, type and config.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, change nothing.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove sources that the file does not name.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the sources match a YAML file. Changes nothing if any part of the file is invalid.

    With --prune it counts what goes with each source that it would remove, and asks.
    """
    from rag_assets.operations.source_specs import plan_changes, read_specs
    from resources.postgres.registry.sources import list_sources

    specs = read_specs(file)
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        changes = plan_changes(specs, list_sources(connection), prune=prune)
    if not as_json:
        rows = [(c.action, c.name, c.type, ", ".join(c.fields)) for c in changes]
        table(str(file), ("plan", "source", "type", "differences"), rows)
    if not dry_run:
        if removed := [change.name for change in changes if change.action == "remove"]:
            parts = [f"{name} ({contents(*count_contents(deployment, name))})" for name in removed]
            question = f"Remove {', '.join(parts)} for good?"
            confirm(question, ("sources", "apply", str(file), "--prune"), yes=yes, as_json=as_json)
        _apply(deployment, changes)
    if as_json:
        print_json(
            {
                "applied": not dry_run,
                "plan": [
                    {"action": c.action, "name": c.name, "type": c.type, "fields": list(c.fields)}
                    for c in changes
                ],
            }
        )
    elif dry_run:
        note("Nothing was changed. Run without --dry-run to apply this plan.")
    elif any(change.action in ("add", "update") for change in changes):
        note("Applied. Ingest with: rag ingest")


def _apply(deployment: Deployment, changes: list[Change]) -> None:
    from rag_assets.identity.grants import set_account
    from resources.credentials import encrypt
    from resources.postgres.identity.audit_chain import append_operation
    from resources.postgres.registry.sources import get_source, update_source

    with deployment.postgres().connect(autocommit=True) as connection:
        for change in changes:
            spec = change.spec
            if spec is None or change.action == "keep":
                continue
            if change.action == "add":
                register(
                    deployment,
                    change.name,
                    spec.config,
                    spec.schedule,
                    kind=change.type,
                    credentials=dict(change.credentials),
                    account=spec.account,
                )
            row = replace(
                get_source(connection, change.name),
                config=spec.config,
                schedule=spec.schedule,
                is_active=spec.active,
            )
            if "credentials" in change.fields:
                row = replace(row, credentials_encrypted=encrypt(change.credentials))
            with connection.transaction():
                update_source(connection, row)
                if "account" in change.fields:
                    set_account(connection, Principal.owner(), row.id, spec.account or None)
                append_operation(connection, "source.change", f"source:{row.id}", name=row.name)
    if removed := [change.name for change in changes if change.action == "remove"]:
        remove_sources(deployment, removed)
