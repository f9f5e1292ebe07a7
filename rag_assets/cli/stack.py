"""`rag up`, `rag down`: the servers behind everything else."""

from __future__ import annotations

from typing import Annotated

import typer

from rag_assets.cli.output import command, note, print_json
from rag_assets.deployment import Deployment
from resources.urls import without_secrets

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@command
def up(as_json: JsonOption = False) -> None:
    """Start the embedded PostgreSQL, Milvus and Valkey if they are not running, and run the migrations.

    Example: rag up --json
    """
    deployment = Deployment.from_environment()
    urls = {
        name: without_secrets(url)
        for name, url in deployment.start(dagster=True, indexes=True, redis=True).items()
    }
    _ = deployment.instance
    deployment.sync_partitions()
    if as_json:
        print_json({"home": str(deployment.settings.home), **urls})
        return
    for name, url in urls.items():
        note(f"{name:10} {url}")
    note(f"{'home':10} {deployment.settings.home}")


@command
def down(as_json: JsonOption = False) -> None:
    """Stop the embedded servers. Your own servers keep running, and all data stays.

    Example: rag down
    """
    from resources.embedded.stack import stop

    stopped = stop(Deployment.from_environment().settings.home)
    if as_json:
        print_json({"stopped": list(stopped)})
        return
    note(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
