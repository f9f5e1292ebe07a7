"""`rag status`: where the stores are, what they contain, and the outcome of the last checks."""

from __future__ import annotations

from typing import Any

from rag_assets.cli.last_checks import last_checks, show_checks
from rag_assets.cli.output import command, facts, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import EmbedderUnavailable
from resources.urls import without_secrets


@command
def status(as_json: JsonOption = False) -> None:
    """Show the URLs, the embedder, the number of rows and the last check results. Starts nothing."""
    report = _status(Deployment.from_environment())
    if as_json:
        print_json(report)
        return
    embedder = report["embedder"]
    facts(
        "Status",
        [
            *((name, report[name]) for name in ("home", "dagster_home")),
            *((name, report[name] or "not running") for name in ("postgres", "milvus")),
            ("storage", report["storage"]),
            ("embedder", f"{embedder['name']}, fingerprint {embedder['fingerprint'] or 'unknown'}"),
            ("vectors", embedder["vectors"]),
        ],
    )
    if report["counts"]:
        table("Rows", list(report["counts"]), [list(report["counts"].values())])
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
        "dagster_home": str(deployment.dagster_home),
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
