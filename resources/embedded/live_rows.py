"""The live rows of a Milvus Lite collection as masks, kept while the collection does not change.

Milvus Lite finds out in each request, in Python and for all rows, which rows are the newest of their id and not
deleted. Here this is computed once for a *snapshot*: the segments, the deletions that were flushed, and the rows and
deletions in memory. Nothing is kept beyond a change of one of them; what belongs to a segment is kept as long as the
collection has it. Loaded only in the process of Milvus Lite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from resources.embedded.kept import Kept
from resources.embedded.memory_rows import Memory
from resources.embedded.milvus_lite_internals import ALL_PARTITIONS
from resources.embedded.segment_rows import SegmentRows

#: Kinds of search (partitions, dense or sparse) whose masks are kept: a byte for each row.
SCOPES = 8

Mask = np.ndarray


@dataclass(frozen=True)
class Live:
    """Masks of the live rows in scope: of each segment in scope, and of the rows in memory."""

    segments: Sequence[tuple[SegmentRows, Mask]]
    memory: Memory
    memory_mask: Mask


class Segments(tuple[Any, ...]):
    """The segments of a snapshot, as Milvus Lite hands them on, with the deletions that belong to them."""

    deletions: Any
    rows: tuple[SegmentRows, ...]
    _flushed: Kept[tuple[frozenset[str] | None, bool], list[Mask]]
    _live: tuple[Any, int, Kept[tuple[frozenset[str] | None, bool], Live], Memory] | None

    @classmethod
    def of(cls, rows: Sequence[SegmentRows], deletions: Any) -> Segments:
        segments = cls(each.segment for each in rows)
        segments.rows, segments.deletions = tuple(rows), deletions
        segments._flushed, segments._live = Kept(SCOPES), None
        return segments

    @cached_property
    def have_distinct_ids(self) -> bool:
        """Whether each segment has each id once, as all that Milvus Lite writes."""
        return all(len(segment.pk_to_row) == segment.num_rows for segment in self)

    def live(self, memtable: Any, partitions: Sequence[str] | None, *, sparse: bool) -> Live:
        """Return the live rows in scope. `version` is read first: a change in between makes a new snapshot."""
        version = version_of(memtable)
        known = self._live
        if known is None or known[0] is not memtable or known[1] != version:
            known = self._live = (memtable, version, Kept(SCOPES), Memory.read(memtable))
        scope = frozenset(partitions) if partitions else None
        return known[2].get((scope, sparse), lambda: self._with_memory(known[3], scope, sparse))

    def _in_scope(self, scope: frozenset[str] | None) -> list[SegmentRows]:
        return [
            each
            for each in self.rows
            if each.segment.num_rows and (scope is None or each.segment.partition in scope)
        ]

    def _flushed_masks(self, scope: frozenset[str] | None, sparse: bool) -> list[Mask]:
        """Masks of the segments in scope without regard to memory.

        Only the newest row of an id is live: in a dense search the newest one in scope, in a sparse one of all.
        """
        inside = self._in_scope(scope)
        compared = self._in_scope(None) if sparse else inside
        newest: dict[Any, int] = {}
        repeated: set[Any] = set()
        for each in compared:
            segment = each.segment
            shared = newest.keys() & segment.pk_to_row.keys()
            older = {pk: newest[pk] for pk in shared}
            newest.update(zip(segment.pks, segment.seqs.tolist(), strict=True))
            newest.update((pk, seq) for pk, seq in older.items() if seq > newest[pk])
            repeated |= shared
        deleted: dict[Any, int] = self.deletions._map
        masks: list[Mask] = []
        for each in inside:
            segment = each.segment
            mask = np.ones(segment.num_rows, bool)
            place, seqs = segment.pk_to_row, segment.seqs
            for pk in repeated & place.keys():
                if int(seqs[place[pk]]) < newest[pk]:
                    mask[place[pk]] = False
            for pk in deleted.keys() & place.keys():
                if int(seqs[place[pk]]) < deleted[pk]:
                    mask[place[pk]] = False
            masks.append(mask)
        return masks

    def _with_memory(self, memory: Memory, scope: frozenset[str] | None, sparse: bool) -> Live:
        masks = self._flushed.get((scope, sparse), lambda: self._flushed_masks(scope, sparse))
        inside = self._in_scope(scope)
        in_memory = memory.inside(scope)
        compared = self._in_scope(None) if sparse else inside
        deleted: dict[Any, int] = self.deletions._map
        live: list[tuple[SegmentRows, Mask]] = []
        counts = range(len(memory.pks)) if sparse else np.flatnonzero(in_memory).tolist()
        newer = {memory.pks[at]: int(memory.seqs[at]) for at in counts}
        for each, mask in zip(inside, masks, strict=True):
            segment = each.segment
            place, seqs, changed = segment.pk_to_row, segment.seqs, []
            for pk in newer.keys() & place.keys():
                if int(seqs[place[pk]]) < newer[pk]:
                    changed.append(place[pk])
            for pk in memory.deletes.keys() & place.keys():
                seq, partition = memory.deletes[pk]
                # A dense search ignores of which partition a row was deleted.
                counted = not sparse or partition in (ALL_PARTITIONS, segment.partition)
                if counted and int(seqs[place[pk]]) < seq:
                    changed.append(place[pk])
            if changed:
                mask = mask.copy()
                mask[changed] = False
            live.append((each, mask))
        memory_mask = in_memory
        for at in np.flatnonzero(in_memory).tolist():
            pk, seq = memory.pks[at], int(memory.seqs[at])
            older = deleted.get(pk, -1) > seq or any(
                (row := each.segment.pk_to_row.get(pk)) is not None
                and int(each.segment.seqs[row]) > seq
                for each in compared
            )
            if older or (not sparse and memory.deletes.get(pk, (-1,))[0] > seq):
                memory_mask[at] = False
        return Live(live, memory, memory_mask)


class CollectionRows:
    """The snapshot of one collection, and what is kept of its segments."""

    def __init__(self) -> None:
        self._segments: Segments | None = None
        self._deletions: tuple[Any, int] | None = None

    def snapshot(self, collection: Any) -> tuple[Segments, Any]:
        """Return the segments and a copy of the deletions. The caller has the lock under which both change."""
        current = tuple(collection._segment_cache.values())
        deletions = (collection._delta_index, version_of(collection._delta_index))
        known = self._segments
        if (
            known is None
            or self._deletions is None
            or self._deletions[0] is not deletions[0]
            or self._deletions[1] != deletions[1]
            or len(known) != len(current)
            or any(one is not other for one, other in zip(known, current, strict=True))
        ):
            kept = {id(each.segment): each for each in known.rows} if known is not None else {}
            rows = [kept.get(id(segment)) or SegmentRows(segment) for segment in current]
            known = self._segments = Segments.of(rows, deletions[0].frozen_copy())
            self._deletions = deletions
        return known, known.deletions


def version_of(changing: Any) -> int:
    """The number of changes of a MemTable or a DeltaIndex since its start."""
    return changing.__dict__.get("rag_version", 0)


def count_changes(cls: type, *methods: str) -> None:
    """Make the methods, which change an object of the class, count in `version_of`, after each change."""
    for name in methods:
        setattr(cls, name, _counting(getattr(cls, name)))


def _counting(method: Callable[..., Any]) -> Callable[..., Any]:
    def counting(self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        finally:
            self.__dict__["rag_version"] = version_of(self) + 1

    return counting
