"""Creates, describes, names and drops the collections of a server. Their declarations live in `collections`."""

from __future__ import annotations

from rag_assets.pipeline.vectors import Kind
from resources.milvus.client import MilvusConnection
from resources.milvus.collections import (
    ALIASES,
    Comparison,
    Layout,
    compare,
    create,
    identity,
    load,
    make_index,
    require_fields,
    scalars,
)


class Administration(MilvusConnection):
    def ensure_collection(self, name: str, layout: Layout) -> str:
        """Create the collection if it is missing. Returns its identity (see `collections.identity`).

        Raises ConfigError if an existing collection has other fields or another dimension than declared, or if the
        server cannot index such vectors; then nothing is created.
        """
        self.capabilities.require_index(layout.kind, layout.index["index_type"])
        with self._errors(f"prepare collection {name}"):
            if self.client.has_collection(name, timeout=self.timeout):
                require_fields(self.client, name, layout, self.timeout)
                load(self.client, name, layout, self.timeout)
            else:
                create(self.client, name, layout, self.timeout)
            return identity(self.client, name, self.timeout)

    def compare(self, name: str, layout: Layout) -> list[Comparison]:
        """The declared and the actual facts of the collection, side by side."""
        with self._errors(f"describe {name}"):
            return compare(self.client, name, layout, self.timeout)

    def lacks_fields(self, name: str, kind: Kind) -> bool:
        """Whether the collection exists and lacks a field that rows have now."""
        return self.has_collection(name) and not scalars(kind).keys() <= self.fields(name)

    def fields(self, name: str) -> frozenset[str]:
        """Names of the fields of a collection, or of the one behind an alias."""
        with self._errors(f"describe {name}"):
            description = self.client.describe_collection(name, timeout=self.timeout)
            return frozenset(field["name"] for field in description["fields"])

    def make_index(self, name: str, layout: Layout) -> None:
        """Replace the index with the declared one."""
        with self._errors(f"make the index of {name}"):
            make_index(self.client, name, layout, self.timeout)

    def identity(self, name: str) -> str | None:
        """The identity of the collection (see `collections.identity`); None if it does not exist."""
        with self._errors(f"describe {name}"):
            if not self.client.has_collection(name, timeout=self.timeout):
                return None
            return identity(self.client, name, self.timeout)

    def alias_target(self, kind: Kind) -> str | None:
        """The physical collection behind the alias, or None."""
        with self._errors("list aliases"):
            for name in self.client.list_collections(timeout=self.timeout):
                if ALIASES[kind] in self.client.list_aliases(name, timeout=self.timeout)["aliases"]:
                    return name
        return None

    def point_alias(self, kind: Kind, name: str) -> None:
        target = self.alias_target(kind)
        with self._errors(f"point {ALIASES[kind]} at {name}"):
            if target is None:
                self.client.create_alias(name, ALIASES[kind], timeout=self.timeout)
            elif target != name:
                self.client.alter_alias(name, ALIASES[kind], timeout=self.timeout)

    def drop_collection(self, name: str) -> None:
        """Drop the collection if it exists."""
        with self._errors(f"drop {name}"):
            if self.client.has_collection(name, timeout=self.timeout):
                self.client.drop_collection(name, timeout=self.timeout)

    def drop_unusable(self) -> list[str]:
        """Drop the collections of kinds that the server cannot index: earlier versions left them, and nothing can read
        them. Returns their names."""
        prefixes = tuple(
            f"{alias}__" for kind, alias in ALIASES.items() if not self.capabilities.has(kind)
        )
        names = [name for name in self.collection_names() if name.startswith(prefixes)]
        for name in names:
            self.drop_collection(name)
        return names

    def is_empty_and_without_index(self, name: str) -> bool:
        """Whether the collection has neither an index nor rows: it cannot be loaded, so rows cannot be looked for."""
        with self._errors(f"describe {name}"):
            if self.client.list_indexes(name):
                return False
            stats = self.client.get_collection_stats(name, timeout=self.timeout)
            return int(stats.get("row_count", 1)) == 0

    def collection_names(self) -> list[str]:
        with self._errors("list collections"):
            return list(self.client.list_collections(timeout=self.timeout))

    def has_collection(self, name: str) -> bool:
        with self._errors(f"look for {name}"):
            return bool(self.client.has_collection(name, timeout=self.timeout))

    def is_loaded(self, name: str) -> bool:
        """Whether the collection, or the one behind the alias, is in memory: only then it can be searched."""
        with self._errors(f"describe {name}"):
            state = self.client.get_load_state(name, timeout=self.timeout).get("state")
            return str(getattr(state, "name", state)) == "Loaded"
