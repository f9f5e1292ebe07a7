"""A server on loopback with OpenAI's embeddings API and the dense vectors of `lexical`; misbehaves on demand."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from resources.embedders.lexical import LexicalEmbedder
from tests.support.model_server import ModelServer, Reply, model_server


@dataclass
class EmbeddingServer(ModelServer):
    path: ClassVar[str] = "/v1/embeddings"
    lexical: LexicalEmbedder = field(default_factory=LexicalEmbedder)

    def respond(self, request: dict[str, Any]) -> Reply:
        return 200, self.answer(request)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a valid response, with vectors of norm 3."""
        dense = self.lexical.embed(request["input"], ["dense"]).dense
        assert dense is not None
        rows: list[Any] = []
        for row in 3 * dense[:, : request.get("dimensions", 1024)]:
            encoded = request.get("encoding_format") == "base64"
            rows.append(
                base64.b64encode(row.tobytes()).decode()
                if encoded
                else [None if np.isnan(value) else float(value) for value in row]
            )
        data = [{"index": i, "embedding": row} for i, row in enumerate(rows)]
        return {"data": data, "usage": {"prompt_tokens": len(data)}}


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    with model_server(EmbeddingServer) as server:
        yield server
