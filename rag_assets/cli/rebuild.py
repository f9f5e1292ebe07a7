"""`rag rebuild milvus | parquet`: creates derived data again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.confirmation import YesOption, confirm
from rag_assets.cli.exit_codes import run_exit_code
from rag_assets.cli.output import (
    bars,
    command,
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

if TYPE_CHECKING:
    import dagster as dg

app = typer.Typer(
    help="Create derived data again: Milvus from Parquet, Parquet from the texts.",
    no_args_is_help=True,
)

SourceOption = Annotated[str | None, typer.Option("--source", help="Only this source.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
]


@app.command()
@command
def milvus(
    source: SourceOption = None, dry_run: DryRunOption = False, as_json: JsonOption = False
) -> None:
    """Recreate the collections from Parquet, without a model call, while searches continue.

    New collections are written beside the serving ones and replace them once the full comparison passes; else exit
    code 1. With --source, the rows of that source are written again in place.
    """
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    deployment.partitions_of(source)
    config: dict[str, Any] = {"dry_run": dry_run, **({"source": source} if source else {})}
    with bars(as_json):
        result = deployment.execute("rebuild_milvus", ops={"rebuild_collections": config})
    errors = failures(result)
    report = (
        result.output_for_node("rebuild_collections") if result.success else _refused(result)
    ) or {}
    if as_json:
        print_json({**report, "errors": step_errors(errors)})
    else:
        verb = "Would be rebuilt" if dry_run else "Not replaced" if errors else "Rebuilt"
        rows = [
            (alias, entry["from"], entry["into"], entry.get("chunks", entry.get("rows")))
            for alias, entry in report.get("collections", {}).items()
        ]
        if rows:
            table(verb, ("alias", "from", "into", "chunks"), rows)
        for _, message in errors:
            print_error(message)
    if errors:
        raise typer.Exit(run_exit_code(result))


def _refused(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the report of a rebuild whose collections were not allowed to serve."""
    import dagster as dg

    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.user_failure_data is not None:
            report = event.step_failure_data.user_failure_data.metadata.get("rebuild")
            if isinstance(report, dg.JsonMetadataValue) and isinstance(report.value, dict):
                return report.value
    return {}


@app.command()
@command
def parquet(
    source: SourceOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Embed again the texts whose embeddings are missing or whose file was damaged. Lists them first, and asks."""
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    keys = deployment.partitions_of(source)
    planned = [_lost(deployment, key) for key in keys]
    work = [key for key, item in zip(keys, planned) if item["texts"] or item["files"]]
    if not as_json:
        _show(planned)
    if dry_run or not work:
        if as_json:
            print_json({"dry_run": dry_run, "rebuilds": planned, "errors": []})
        return
    texts = plural(sum(item["texts"] for item in planned), "text")
    arguments = ("rebuild", "parquet", *(("--source", source) if source else ()))
    confirm(f"Embed {texts} again?", arguments, yes=yes, as_json=as_json)
    reports: list[dict[str, Any]] = []
    errors: list[tuple[str, str]] = []
    results = []
    with bars(as_json):
        for key in work:
            result = deployment.execute("rebuild_parquet", key)
            results.append(result)
            if result.success:
                reports += result.output_for_node("embed_what_is_lost")
            errors += failures(result)
    if as_json:
        print_json({"dry_run": False, "rebuilds": reports, "errors": step_errors(errors)})
    else:
        for report in reports:
            embedded = plural(report["embedded"], "text")
            out.print(
                f"{report['source']}: {embedded} embedded, {report['failed']} refused", markup=False
            )
        for _, message in errors:
            print_error(message)
    if errors:
        raise typer.Exit(run_exit_code(*results))


def _lost(deployment: Deployment, key: str) -> dict[str, Any]:
    from rag_assets.operations.reembed import lost_embeddings
    from resources.partition_keys import source_name
    from resources.postgres.registry.sources import get_source
    from resources.postgres.scope import SyncScope
    from resources.postgres.vectors.target import Target

    with deployment.postgres().connect(autocommit=True) as connection:
        source = get_source(connection, source_name(key))
        target = Target(SyncScope(source.id), deployment.model, deployment.settings.vectors)
        report, _ = lost_embeddings(connection, deployment.files(), target, source.name)
    return report.as_dict()


def _show(planned: list[dict[str, Any]]) -> None:
    rows = [
        (
            item["source"],
            len(item["files"]),
            item["texts"],
            item["characters"],
            item["tokens"],
            "unknown" if item["bytes"] is None else f"{item['bytes'] / 1e6:.1f} MB",
        )
        for item in planned
        if item["texts"] or item["files"]
    ]
    if not rows:
        out.print("Nothing to embed: every text has its embedding, and no file is damaged.")
        return
    table(
        "To embed again",
        ("source", "files lost", "texts", "characters", "tokens (about)", "in Parquet (about)"),
        rows,
    )
