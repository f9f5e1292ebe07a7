"""`rag status`: where the stores are, what they contain, the runs, the last checks, and the sources that fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from rag_assets.cli.last_checks import last_checks, show_checks
from rag_assets.cli.output import command, facts, out, plural, print_json, table
from rag_assets.cli.run_activity import run_activity, show_runs
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import EmbedderUnavailable
from resources.urls import without_secrets

if TYPE_CHECKING:
    from resources.postgres.connection import Connection

#: Failed documents in the answer; the counts are of all.
MAX_FAILED = 20


@command
def status(as_json: JsonOption = False) -> None:
    """Show the URLs, the embedder, the number of rows, runs, the last check results and failing sources.

    Starts nothing.
    """
    report = _status(Deployment.from_environment())
    if as_json:
        print_json(report)
        return
    embedder = report["embedder"]
    facts(
        "Status",
        [
            *((name, report[name]) for name in ("home", "dagster_home")),
            *((name, report[name] or "not running") for name in ("postgres", "milvus", "valkey")),
            ("storage", report["storage"]),
            ("embedder", f"{embedder['name']}, fingerprint {embedder['fingerprint'] or 'unknown'}"),
            ("vectors", embedder["vectors"]),
        ],
    )
    if report["counts"]:
        table("Rows", list(report["counts"]), [list(report["counts"].values())])
    _show_failed(report["failed_documents"])
    _show_incomplete(report["incomplete_documents"])
    _show_left(report["left_documents"])
    if report["runs"]:
        show_runs(report["runs"])
    if report["checks"]:
        show_checks(report["checks"])
    for item in report["failing_sources"] or []:
        error = Text.assemble((f"{item['source']}: ", "bold red"), item["error"])
        out.print(error, soft_wrap=True)


def _show_failed(failed: Mapping[str, Any] | None) -> None:
    """Show the documents that are not searchable, wholly or in part, and why."""
    if not failed or not failed["documents"]:
        return
    table(
        f"Not searchable: {plural(failed['read'], 'document')} that could not be read, {failed['embed']} that could "
        "not be embedded, wholly or in part; about one: rag explain KEY",
        ("document", "could not be", "reason"),
        [
            (f"{item['source']}/{item['key']}", _STEPS[item["step"]], item["reason"])
            for item in failed["documents"]
        ],
    )
    if (more := failed["read"] + failed["embed"] - len(failed["documents"])) > 0:
        out.print(f"… and {more} more: rag ingest --json", markup=False)


def _show_incomplete(documents: Sequence[Mapping[str, Any]] | None) -> None:
    """Show the documents of which a share of the text could not be read."""
    if not documents:
        return
    table(
        f"Read in part: {documents[0]['total']} documents; more of each: rag explain",
        ("document", "share of the text that was not read"),
        [(f"{item['source']}/{item['key']}", f"{item['share']:.0%}") for item in documents],
    )


def _show_left(left: Mapping[str, Any] | None) -> None:
    """Show the documents that the last syncs left as they were, and why."""
    if not left or not left["count"]:
        return
    table(
        f"Left for the next sync: {plural(left['count'], 'document')}; about one: rag explain KEY",
        ("document", "reason"),
        [(f"{item['source']}/{item['key']}", item["reason"]) for item in left["documents"]],
    )


_STEPS = {"read": "read", "embed": "embedded"}


def _status(deployment: Deployment) -> dict[str, Any]:
    from resources.postgres.connection import Postgres
    from resources.postgres.consistency.counts import count_everything
    from resources.postgres.registry.sources import list_failing

    settings, endpoints = deployment.settings, deployment.endpoints()
    counts: dict[str, int] | None = None
    checks: list[dict[str, Any]] | None = None
    runs: list[dict[str, Any]] | None = None
    failing: list[dict[str, Any]] | None = None
    failed: dict[str, Any] | None = None
    incomplete: list[dict[str, Any]] | None = None
    left: dict[str, Any] | None = None
    if "postgres" in endpoints:
        with Postgres(endpoints["postgres"]).connect(autocommit=True) as connection:
            counts = count_everything(connection)
            checks = last_checks(connection, settings.repair_attempts)
            runs, failing = run_activity(connection), list_failing(connection)
            # Without documents the tables may not exist yet.
            failed = _failed_documents(connection) if counts["documents"] else None
            incomplete = _incomplete_documents(connection) if counts["documents"] else []
            left = _left_documents(connection) if counts["sources"] else None
    return {
        "home": str(settings.home),
        "dagster_home": str(deployment.dagster_home),
        "postgres": without_secrets(endpoints["postgres"]) if "postgres" in endpoints else None,
        "milvus": without_secrets(endpoints["milvus"]) if "milvus" in endpoints else None,
        "valkey": without_secrets(endpoints["valkey"]) if "valkey" in endpoints else None,
        "storage": without_secrets(settings.effective_storage_url),
        "embedder": {
            "name": settings.embedder,
            "fingerprint": _fingerprint(deployment),
            "vectors": list(settings.vectors),
        },
        "counts": counts,
        "failed_documents": failed,
        "incomplete_documents": incomplete,
        "left_documents": left,
        "runs": runs,
        "checks": checks,
        "failing_sources": failing,
    }


def _failed_documents(connection: Connection) -> dict[str, Any]:
    from resources.postgres.documents.documents import count_failed_documents, failed_documents

    documents = failed_documents(connection, limit=MAX_FAILED)
    return {
        "read": 0,
        "embed": 0,
        **count_failed_documents(connection),
        "documents": [document._asdict() for document in documents],
    }


def _incomplete_documents(connection: Connection) -> list[dict[str, Any]]:
    from resources.postgres.documents.documents import most_incomplete_documents

    return [document._asdict() for document in most_incomplete_documents(connection, MAX_FAILED)]


def _left_documents(connection: Connection) -> dict[str, Any]:
    from resources.postgres.registry.left_documents import count_left, list_left

    documents = [document._asdict() for document in list_left(connection, MAX_FAILED)]
    return {"count": count_left(connection), "documents": documents}


def _fingerprint(deployment: Deployment) -> str | None:
    try:
        return deployment.model
    except EmbedderUnavailable:
        # `openai` without RAG_OPENAI_DIMENSIONS asks its server.
        return None
