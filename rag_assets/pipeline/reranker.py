"""The interface of rerankers: models that read a query and a text together. No model here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Reranker(Protocol):
    """Scores texts for a query. Threads may share one.

    `identity` names the model, and is available without loading it.
    """

    @property
    def identity(self) -> Mapping[str, str]: ...

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return a finite number for each text, the greater the more relevant.

        Raises RerankerFailed if there are no usable scores this time, and ConfigError if the setup cannot work.
        """
        ...
