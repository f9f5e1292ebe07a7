"""The collection that a killed `rag index compare` left: loaded, in the memory of Milvus, until it is dropped."""

from __future__ import annotations

import zlib

from resources.milvus.store import MilvusStore
from resources.milvus.trials import trial_name
from resources.postgres.connection import Postgres, try_session_lock

#: The lock of the comparison that runs in a deployment.
COMPARISON = "index trials"


def trial_owner(place: str) -> str:
    """Return the part of trial collections' names that stands for a deployment: its PostgreSQL or its home folder."""
    return f"{zlib.crc32(place.encode()):08x}"


def drop_abandoned_trial(store: MilvusStore, postgres: Postgres, owner: str) -> list[str]:
    """Drop the deployment's trial collection unless a comparison runs. Returns the names of dropped collections."""
    name = trial_name(owner)
    if not store.has_collection(name):
        return []
    with postgres.connect(autocommit=True) as connection:
        if not try_session_lock(connection, COMPARISON):
            return []
        store.drop_collection(name)
    return [name]
