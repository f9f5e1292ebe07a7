"""Temporary collections for index trials: they contain only vectors and are dropped after the trial.

The rest of the project ignores collections with this prefix. The next trial drops those of a killed one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType

from rag_assets.pipeline.index_kinds import Server
from resources.errors import StoreUnavailable
from resources.milvus.collections import VECTOR_FIELD, is_lite
from resources.milvus.store import MilvusStore
from resources.milvus.writes import UPSERT_ROWS

PREFIX = "rag_trial_"
#: Maximum seconds for building an index, and seconds between looks at its progress.
BUILD_TIMEOUT, POLL = 3600.0, 0.2


@dataclass(frozen=True)
class TrialStore(MilvusStore):
    """A server for index trials. `owner`: part of the collection names, so that deployments may share a server.

    `folder`: the data folder of the server if it is on this machine.
    """

    owner: str = "0"
    folder: Path | None = None

    @contextmanager
    def trial(self) -> Iterator[str]:
        """Yield the name for a collection; drop that collection at the end, also after an error."""
        name = f"{PREFIX}{self.owner}"
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
                    client.insert(name, rows, timeout=BUILD_TIMEOUT)
                    count += len(rows)
                    yield count
            client.flush(name, timeout=BUILD_TIMEOUT)

    def build(self, name: str, index: Mapping[str, Any]) -> float:
        """Replace the index with the given one (index_type, metric_type, params). Returns the seconds this took."""
        client = self.client
        with self._errors(f"build {index['index_type']}"):
            if client.list_indexes(name):
                client.release_collection(name, timeout=self.timeout)
                client.drop_index(name, VECTOR_FIELD, timeout=self.timeout)
            index_params = client.prepare_index_params()
            index_params.add_index(VECTOR_FIELD, index_name=VECTOR_FIELD, **index)
            started = time.perf_counter()
            client.create_index(name, index_params, timeout=BUILD_TIMEOUT)
            while self._pending(name):
                if time.perf_counter() - started > BUILD_TIMEOUT:
                    raise StoreUnavailable(f"{index} is not built after {BUILD_TIMEOUT:g} s.")
                time.sleep(POLL)
            # Milvus Lite builds the index only here.
            client.load_collection(name, timeout=BUILD_TIMEOUT)
            return time.perf_counter() - started

    @property
    def server(self) -> Server:
        if is_lite(self.client):
            return "lite"
        return "2.3" if self.client.get_server_version().startswith("v2.3") else "current"

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
