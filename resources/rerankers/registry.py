"""Creates a reranker from its configured name. The modules are imported on demand; none loads a model here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_assets.pipeline.reranker import Reranker


def create_reranker(name: str, **options: Any) -> Reranker:
    """Return the reranker `cross-encoder` or `endpoint`. Raises ConfigError for an API key that cannot be sent."""
    if name == "endpoint":
        from resources.rerankers.endpoint import EndpointReranker

        return EndpointReranker(**options)
    from resources.rerankers.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(**options)
