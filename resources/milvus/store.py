"""The Milvus store: collections, and writes and reads of their rows."""

from __future__ import annotations

from resources.milvus.administration import Administration
from resources.milvus.writes import Writes


class MilvusStore(Administration, Writes):
    """Combines `administration`, `writes` and `reads`; `client` sends the requests."""
