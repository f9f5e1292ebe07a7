"""The end of `rag ingest` after a change of model: publish the new collections once they are complete."""

from __future__ import annotations

from typing import Any

from rag_assets.cli.output import err, remark
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures

JOB = "publish_collections"


def publish_requested(deployment: Deployment) -> dict[str, Any] | None:
    """Run the publication if the syncs asked for it. Returns its report, or None if nothing was asked for."""
    from rag_assets.ingestion.publishing import requested_collections

    with deployment.postgres().connect(autocommit=True) as connection:
        if not requested_collections(connection, deployment.model_target):
            return None
    result = deployment.execute(JOB)
    if result.success:
        report: dict[str, Any] = result.output_for_node("publish")
        return report
    return {"published": {}, "waiting": {}, "blocked": "\n".join(m for _, m in failures(result))}


def show_publication(report: dict[str, Any]) -> None:
    for alias, collection in report["published"].items():
        remark(f"{alias} now points at {collection}")
    if report["blocked"]:
        err.print("[bold yellow]not published:[/] ", end="")
        err.print(report["blocked"], markup=False, soft_wrap=True)
