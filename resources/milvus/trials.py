"""Collections for trying out an index: vectors and nothing else, under names of their own, gone with the trial.

No part of the project looks at collections of this prefix; what a killed trial leaves, the next one drops.
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
#: Seconds that building an index may take, and between looking whether it is built.
BUILD_TIMEOUT, POLL = 3600.0, 0.2


@dataclass(frozen=True)
class TrialStore(MilvusStore):
    """A server on which indexes are tried. `owner`: in the names, so that deployments that share it do not meet.

    `folder`: where it keeps its files, if that is on this machine.
    """

    owner: str = "0"
    folder: Path | None = None

    @contextmanager
    def trial(self) -> Iterator[str]:
        """The name for a collection, which is dropped at the end, however that comes about."""
        name = f"{PREFIX}{self.owner}"
        self.drop_collection(name)
        try:
            yield name
        finally:
            self.drop_collection(name)

    def fill(
        self, name: str, dimension: int, batches: Iterator[NDArray[np.float32]]
    ) -> Iterator[int]:
        """Makes the collection and writes the rows, numbered as they come. Yields how many are written."""
        client, at = self.client, 0
        with self._errors(f"fill {name}"):
            schema = client.create_schema(auto_id=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
            client.create_collection(
                name, schema=schema, num_shards=1, consistency_level="Bounded", timeout=self.timeout
            )
            for vectors in batches:
                for start in range(0, len(vectors), UPSERT_ROWS):
                    part = vectors[start : start + UPSERT_ROWS]
                    rows = [
                        {"id": at + number, VECTOR_FIELD: vector}
                        for number, vector in enumerate(part)
                    ]
                    client.insert(name, rows, timeout=BUILD_TIMEOUT)
                    at += len(rows)
                    yield at
            client.flush(name, timeout=BUILD_TIMEOUT)

    def build(self, name: str, index: Mapping[str, Any]) -> float:
        """Builds the index (index_type, metric_type, params) in place of the one there is. Returns seconds."""
        client = self.client
        with self._errors(f"build {index['index_type']}"):
            if client.list_indexes(name):
                client.release_collection(name, timeout=self.timeout)
                client.drop_index(name, VECTOR_FIELD, timeout=self.timeout)
            made = client.prepare_index_params()
            made.add_index(VECTOR_FIELD, index_name=VECTOR_FIELD, **index)
            started = time.perf_counter()
            client.create_index(name, made, timeout=BUILD_TIMEOUT)
            while self._pending(name):
                if time.perf_counter() - started > BUILD_TIMEOUT:
                    raise StoreUnavailable(f"{index} is not built after {BUILD_TIMEOUT:g} s.")
                time.sleep(POLL)
            client.load_collection(name, timeout=BUILD_TIMEOUT)  # where Milvus Lite builds it
            return time.perf_counter() - started

    @property
    def server(self) -> Server:
        if is_lite(self.client):
            return "lite"
        return "2.3" if self.client.get_server_version().startswith("v2.3") else "current"

    def _pending(self, name: str) -> int:
        found = self.client.describe_index(name, VECTOR_FIELD, timeout=self.timeout)
        return int(found.get("pending_index_rows") or 0)

    def index_files(self) -> dict[Path, int]:
        """Files of indexes in the server's folder -> bytes. Servers do not say how large an index is."""
        if self.folder is None:
            return {}
        found = (
            path
            for path in self.folder.rglob("*")
            if path.suffix == ".idx" or path.parts[-6:-5] == ("index_files",)
        )
        return {path: path.stat().st_size for path in found if path.is_file()}
