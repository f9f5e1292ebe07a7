"""Access: who searches, and which sources they may see.

Every read of documents for a user takes an `AccessScope`. It is applied twice: `restrict` narrows the filters that
Milvus and PostgreSQL apply, and a read by a document's id takes `visible` as a predicate on the document's source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rag_assets.pipeline.filters import Filters


@dataclass(frozen=True, slots=True)
class AccessScope:
    """A principal, and the names of the sources that it may see: None is every source, an empty set is no source.

    Accounts, chat bots and permissions become further fields: each narrows `restrict`, and with it every search.
    """

    principal: str
    sources: frozenset[str] | None

    def __post_init__(self) -> None:
        # A string would pass as a set of its letters.
        if self.sources is not None and not isinstance(self.sources, frozenset):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"sources: expected a frozenset or None, found {self.sources!r}")

    @classmethod
    def owner(cls) -> AccessScope:
        """Return the scope of the deployment's owner, who sees everything. The command line uses it."""
        return cls("owner", None)

    @property
    def visible(self) -> list[str] | None:
        """The parameter of SQL predicates: names of sources, or None (NULL) for no restriction."""
        return None if self.sources is None else sorted(self.sources)

    def restrict(self, filters: Filters) -> Filters | None:
        """Return the filters with a condition on the source that admits only this scope. None: no row can meet them.

        An empty condition on the source means no condition, so an empty intersection must not become one.
        """
        if self.sources is None:
            return filters
        sources = self.sources.intersection(filters.source) if filters.source else self.sources
        return replace(filters, source=tuple(sorted(sources))) if sources else None
