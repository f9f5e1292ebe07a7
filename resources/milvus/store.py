"""A Milvus server as the project uses it: its collections, and writes and reads of their rows."""

from __future__ import annotations

from resources.milvus.administration import Administration
from resources.milvus.writes import Writes


class MilvusStore(Administration, Writes):
    """Administration, writes and reads, each in a module of its own; how a request is made: `requests`."""
