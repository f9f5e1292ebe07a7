"""Temporary collections for index trials: they contain only vectors and are dropped after the trial.

The rest of the project ignores collections with this prefix. After a kill, the next command that runs jobs drops it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.index_kinds import Server
from resources.errors import RagError, StoreUnavailable
from resources.milvus.collections import VECTOR_FIELD
from resources.milvus.driver import DataType
from resources.milvus.store import MilvusStore
from resources.milvus.writes import UPSERT_ROWS

PREFIX = "rag_trial_"
#: Seconds between looks at the progress of an index.
POLL = 0.2
#: Maximum seconds that a request waits: pymilvus accepts no infinite ones.
MAX_WAIT = 86_400.0


def trial_name(owner: str) -> str:
    """Return the name of a deployment's trial collection: it has at most one."""
    return f"{PREFIX}{owner}"


class TimeLimitReached(RagError):
    """A trial has no time left. Raised between two requests."""


@dataclass
class TimeLimit:
    """The monotonic time at which trials must have ended."""

    ends: float = math.inf

    @property
    def is_reached(self) -> bool:
        return time.monotonic() >= self.ends

    def remaining(self) -> float:
        """Return the seconds until the end. Raises TimeLimitReached if there are none."""
        if self.is_reached:
            raise TimeLimitReached("the time limit was reached")
        return min(self.ends - time.monotonic(), MAX_WAIT)

    @contextmanager
    def share(self, part: float) -> Iterator[None]:
        """Let the block take a part of the remaining time, so that some is left for others."""
        ends = self.ends
        self.ends = time.monotonic() + self.remaining() * part
        try:
            yield
        finally:
            self.ends = ends


@dataclass(frozen=True)
class TrialStore(MilvusStore):
    """A server for index trials. `owner`: part of the collection names, so that deployments may share a server.

    `folder`: the data folder of the server if it is on this machine. `limit`: the time of all trials.
    """

    #: With Strong, each search of 2.3.5 waits 200 ms: longer than any index takes. The rows are loaded before.
    search_consistency: str = "Bounded"
    owner: str = "0"
    folder: Path | None = None
    limit: TimeLimit = field(default_factory=TimeLimit)

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            with super()._errors(action):
                yield
        except StoreUnavailable as error:
            # A request that the end of the time cut off.
            if self.limit.is_reached:
                raise TimeLimitReached(f"the time limit was reached: {error}") from error
            raise

    @contextmanager
    def trial(self) -> Iterator[str]:
        """Yield the name for a collection; drop that collection at the end, also after an error."""
        name = trial_name(self.owner)
        self.drop_collection(name)
        try:
            yield name
        finally:
            self.drop_collection(name)

    def fill(
        self, name: str, dimension: int, batches: Iterator[NDArray[np.float32]]
    ) -> Iterator[int]:
        """Create the collection and insert the rows, with ids counted from 0. Yields the number of rows so far."""
        client, count = self.client, 0
        with self._errors(f"fill {name}"):
            schema = client.create_schema(auto_id=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
            client.create_collection(
                name, schema=schema, num_shards=1, consistency_level="Bounded", timeout=self.timeout
            )
            for vectors in batches:
                for start in range(0, len(vectors), UPSERT_ROWS):
                    rows = [
                        {"id": row_id, VECTOR_FIELD: vector}
                        for row_id, vector in enumerate(vectors[start : start + UPSERT_ROWS], count)
                    ]
                    client.insert(name, rows, timeout=self.limit.remaining())
                    count += len(rows)
                    yield count
            client.flush(name, timeout=self.limit.remaining())

    def build(self, name: str, index: Mapping[str, Any]) -> float:
        """Replace the index with the given one (index_type, metric_type, params). Returns the seconds this took.

        Raises TimeLimitReached if it is not built in time.
        """
        client = self.client
        with self._errors(f"build {index['index_type']}"):
            if client.list_indexes(name):
                client.release_collection(name, timeout=self.timeout)
                client.drop_index(name, VECTOR_FIELD, timeout=self.timeout)
            index_params = client.prepare_index_params()
            index_params.add_index(VECTOR_FIELD, index_name=VECTOR_FIELD, **index)
            started = time.perf_counter()
            # With sync=True, pymilvus sleeps half a second between two looks.
            client.create_index(name, index_params, timeout=self.limit.remaining(), sync=False)
            while self._pending(name):
                time.sleep(min(POLL, self.limit.remaining()))
            # Milvus Lite builds the index only here.
            client.load_collection(name, timeout=self.limit.remaining())
            return time.perf_counter() - started

    @property
    def server(self) -> Server:
        return self.capabilities.server

    def _pending(self, name: str) -> int:
        description = self.client.describe_index(name, VECTOR_FIELD, timeout=self.timeout)
        return int(description.get("pending_index_rows") or 0)

    def index_files(self) -> dict[Path, int]:
        """Index files in the server's folder -> bytes. (Servers do not report the size of an index.)"""
        if self.folder is None:
            return {}
        paths = (
            path
            for path in self.folder.rglob("*")
            if path.suffix == ".idx" or path.parts[-6:-5] == ("index_files",)
        )
        return {path: path.stat().st_size for path in paths if path.is_file()}
