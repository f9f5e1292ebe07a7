"""`rag up`, `down`, `status`, `ui`: the servers behind everything else."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from rag_assets.cli.last_checks import last_checks, show_checks
from rag_assets.cli.output import command, out, print_json, table
from rag_assets.deployment import Deployment
from rag_assets.settings.stores import PROJECT_ROOT
from resources.errors import EmbedderUnavailable
from resources.urls import without_secrets

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@command
def up(as_json: JsonOption = False) -> None:
    """Start the embedded PostgreSQL and Milvus if they are not running, and run the migrations."""
    deployment = Deployment.from_environment()
    urls = {name: without_secrets(url) for name, url in deployment.start(dagster=True).items()}
    _ = deployment.instance
    deployment.sync_partitions()
    if as_json:
        print_json({"home": str(deployment.settings.home), **urls})
        return
    for name, url in urls.items():
        out.print(f"{name:10} {url}", soft_wrap=True)
    out.print(f"{'home':10} {deployment.settings.home}", soft_wrap=True)


@command
def down() -> None:
    """Stop the embedded servers. Your own servers keep running."""
    from resources.embedded.stack import stop

    stopped = stop(Deployment.from_environment().settings.home)
    out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@command
def status(as_json: JsonOption = False) -> None:
    """Show the URLs, the embedder, the number of rows and the last check results. Starts nothing."""
    deployment = Deployment.from_environment()
    report = _status(deployment)
    if as_json:
        print_json(report)
        return
    rows = [
        (name, value)
        for name, value in report.items()
        if name not in ("embedder", "counts", "checks")
    ]
    rows += [(f"embedder.{name}", value) for name, value in report["embedder"].items()]
    table(
        "Status",
        ("item", "value"),
        [(name, value if value is not None else "not running") for name, value in rows],
    )
    if report["counts"]:
        table("Counts", list(report["counts"]), [list(report["counts"].values())])
    if report["checks"]:
        show_checks(report["checks"])


def _status(deployment: Deployment) -> dict[str, Any]:
    from resources.postgres.connection import Postgres
    from resources.postgres.consistency.counts import count_everything

    settings, endpoints = deployment.settings, deployment.endpoints()
    counts: dict[str, int] | None = None
    checks: list[dict[str, Any]] | None = None
    if "postgres" in endpoints:
        with Postgres(endpoints["postgres"]).connect(autocommit=True) as connection:
            counts = count_everything(connection)
            checks = last_checks(connection, settings.repair_attempts)
    return {
        "home": str(settings.home),
        "postgres": without_secrets(endpoints["postgres"]) if "postgres" in endpoints else None,
        "milvus": without_secrets(endpoints["milvus"]) if "milvus" in endpoints else None,
        "storage": without_secrets(settings.effective_storage_url),
        "embedder": {
            "name": settings.embedder,
            "fingerprint": _fingerprint(deployment),
            "vectors": list(settings.vectors),
        },
        "counts": counts,
        "checks": checks,
    }


def _fingerprint(deployment: Deployment) -> str | None:
    try:
        return deployment.model
    except EmbedderUnavailable:
        # `openai` without RAG_OPENAI_DIMENSIONS asks its server.
        return None


@command
def ui(port: Annotated[int, typer.Option(help="Port of the UI on 127.0.0.1.")] = 3000) -> None:
    """Start the stack and the Dagster UI with its daemon (sensors, schedules, backfills). Ctrl-C ends the UI."""
    deployment = Deployment.from_environment()
    deployment.start()
    os.environ["DAGSTER_HOME"] = str(deployment.dagster_home)
    os.chdir(PROJECT_ROOT)
    dagster = os.path.join(os.path.dirname(sys.executable), "dagster")
    out.print(f"Dagster UI: http://127.0.0.1:{port}")
    os.execv(dagster, [dagster, "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)])
