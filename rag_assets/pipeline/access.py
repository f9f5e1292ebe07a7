"""Access: who searches, and which sources they may see.

Every read of documents for a user takes an `AccessScope`. It is applied twice: `restrict` narrows the filters that
Milvus and PostgreSQL apply, and a read by a document's id takes `visible` as a predicate on the document's source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.permissions import PERMISSIONS, Permission


@dataclass(frozen=True, slots=True)
class AccessScope:
    """A principal, its permissions, and the names of what it may see: None is everything, an empty set is nothing.

    `sources`: those granted by name and those of the granted accounts; searches are narrowed to them. `chat_bots`: as
    ACCOUNT/NAME.
    """

    principal: str
    sources: frozenset[str] | None
    accounts: frozenset[str] | None = frozenset()
    chat_bots: frozenset[str] | None = frozenset()
    permissions: frozenset[Permission] = frozenset()

    def __post_init__(self) -> None:
        # A string would pass as a set of its letters.
        for name in ("sources", "accounts", "chat_bots"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, frozenset):
                raise TypeError(f"{name}: expected a frozenset or None, found {value!r}")

    @classmethod
    def owner(cls) -> AccessScope:
        """Return the scope of the deployment's owner, who sees everything. The command line uses it."""
        return cls("owner", None, None, None, frozenset(PERMISSIONS))

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
