"""The server on which `rag index compare` builds its indexes, and the kinds that it can build."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rag_assets.deployment import Deployment
from rag_assets.pipeline.index_kinds import KINDS, IndexKind, index_problems
from resources.errors import ConfigError

if TYPE_CHECKING:
    from resources.milvus.trials import TrialStore


@contextmanager
def trial_server(
    deployment: Deployment, url: str | None, data: Path | None, time_limit: float
) -> Iterator[TrialStore]:
    """Open the server that builds the indexes. One comparison at a time: each drops the leftovers of the last."""
    from rag_assets.evaluation.abandoned_trials import COMPARISON
    from resources.milvus.trials import TimeLimit, TrialStore
    from resources.postgres.connection import try_session_lock

    settings, store = deployment.settings, deployment.milvus()
    is_configured = url is None or url == store.uri
    embedded = settings.home / "milvus" if is_configured and not settings.milvus_uri else None
    trials = TrialStore(
        store.uri if url is None else url,
        store.token if is_configured else "",
        settings.milvus_timeout,
        ca_file=store.ca_file if is_configured else "",
        owner=deployment.trial_owner,
        folder=data or embedded,
        limit=TimeLimit(time.monotonic() + time_limit),
    )
    with deployment.postgres().connect(autocommit=True) as connection:
        if not try_session_lock(connection, COMPARISON):
            raise ConfigError("Another `rag index compare` is running in this deployment.")
        try:
            yield trials
        finally:
            trials.close()


def runnable_kinds(store: TrialStore, types: str | None) -> list[IndexKind]:
    """Return the named kinds, or all that the server has without a GPU."""
    server = store.server
    if types is None:
        return [kind for kind in KINDS.values() if server in kind.servers and not kind.on_gpu]
    problems, kinds = [], []
    for name in dict.fromkeys(part.strip() for part in types.split(",")):
        problems += index_problems({"index_type": name, "metric_type": "IP"}, server=server)
        kinds += [KINDS[name]] if name in KINDS else []
    if problems:
        raise ConfigError("\n".join(problems))
    return kinds
