"""What a Milvus server can do, by its version. Asked before a collection is made: a server accepts fields that it
cannot index, and the collection then stays without an index."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rag_assets.pipeline.index_kinds import KINDS, Server
from rag_assets.pipeline.vectors import Kind
from resources.errors import ConfigError

#: The first versions with upserts and arrays, and with sparse vectors.
LEAST, SPARSE = (2, 3), (2, 4)

#: Kind -> the first version of Milvus that has it; every supported version has the others.
SINCE: dict[Kind, tuple[int, int]] = {"sparse": SPARSE}


@dataclass(frozen=True)
class Capabilities:
    """A server by the version that it reports: `milvus_lite-3.2.2`, `v2.3.5-lite` (the server of the wheel `milvus`),
    `2.6.4`, or a managed one's "…(Compatible with Milvus 2.5.x)"."""

    version: str

    @property
    def is_lite(self) -> bool:
        """Whether it is Milvus Lite."""
        return self.version.startswith("milvus_lite")

    @property
    def number(self) -> tuple[int, int] | None:
        """Major and minor version; None for Milvus Lite and for versions without a number (builds of a branch)."""
        match = None if self.is_lite else re.search(r"(\d+)\.(\d+)", self.version)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def server(self) -> Server:
        if self.is_lite:
            return "lite"
        return "2.3" if self.number == LEAST else "current"

    def has(self, kind: Kind) -> bool:
        """Return whether the server can index this kind of vectors; an unknown version may."""
        return self.number is None or self.number >= SINCE.get(kind, LEAST)

    def problem(self, kind: Kind) -> str:
        """Return why the server cannot index this kind, as part of a sentence; empty if it can."""
        if self.has(kind):
            return ""
        least = ".".join(map(str, SINCE.get(kind, LEAST)))
        if kind in SINCE:
            return (
                f"Milvus {self.version} has no {kind} vectors, which need Milvus {least} or newer"
            )
        return f"expected Milvus {least} or newer, found {self.version}"

    def require_kinds(self, kinds: Sequence[Kind]) -> None:
        """Raise ConfigError that names the kinds which the server cannot index, and the setting without them."""
        missing: list[Kind] = [kind for kind in kinds if not self.has(kind)]
        if missing:
            remaining = ",".join(kind for kind in kinds if kind not in missing) or "dense"
            raise ConfigError(
                f"{self.problem(missing[0])}. Set RAG_VECTORS={remaining}, or use a newer server."
            )

    def require_index(self, kind: Kind, index_type: str) -> None:
        """Raise ConfigError if the server cannot build this index over vectors of this kind."""
        self.require_kinds((kind,))
        index = None if kind == "sparse" else KINDS.get(index_type)
        if index is not None and self.server not in index.servers:
            available = ", ".join(
                item.name for item in KINDS.values() if self.server in item.servers
            )
            raise ConfigError(
                f"RAG_DENSE_INDEX: Milvus {self.version} has no {index_type}, only {available}."
            )
