"""The fetches of one sync: several at a time, batch by batch, with the bytes of a content on their way to the store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import BoundedSemaphore, Condition, Lock

from rag_assets.ingestion.sameness import signature
from rag_assets.ingestion.stage import Stage
from rag_assets.pipeline.entries import Content
from rag_assets.pipeline.identity import content_hash
from rag_assets.pipeline.plan import Plan
from resources.errors import SourceChanging, SourceError, SourceUnavailable
from resources.fault_injection import fault_point
from resources.files import FileStore, raw_name
from resources.postgres.registry.entries import (
    Fetched,
    Listed,
    record_fetched,
)
from resources.postgres.registry.replacements import stage_replacements
from resources.sources.base import Source
from resources.sources.envelope import wrap

#: Fetches at the same time: reading waits for disks and networks, not for this process.
FETCHERS = 4
#: Contents on their way to object storage at the same time, which answers each after tens of milliseconds.
UPLOADERS = 16
#: Bytes of all contents in memory; one content may have more.
BYTES = 64 * 1024 * 1024
#: Bytes assumed for a content whose source does not state its size.
_UNKNOWN_SIZE = 1024 * 1024
#: The server counts as dead after this many fetches without an answer, if no fetch that began after them had one.
SILENT = 8


@dataclass(frozen=True, slots=True)
class Left:
    """A document that is left for the next sync, as it was: its content is being written."""

    key: str
    reason: str


class _Dead:
    """Not requested, because the server counts as dead."""


@dataclass
class Fetching:
    """The fetches of one sync, batch by batch.

    `guarded`: contents that several documents turn into wait in `replacements`; of `held_back` documents they are not
    taken. `left`: see `Left`. `silent`: fetches
    without an answer. `refuted`: how many of them a later fetch refutes, one that began after them and was answered.
    `dead`: nothing more is requested, even if an answer was still on its way.
    """

    stage: Stage
    source: Source
    files: FileStore
    plan: Plan
    guarded: bool = True
    left: list[Left] = field(default_factory=list)
    silent: int = 0
    refuted: int = 0
    dead: bool = False
    held_back: int = 0
    _lock: Lock = field(default_factory=Lock)
    _fetchers: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(FETCHERS))
    _memory: Condition = field(default_factory=Condition)
    _bytes: int = 0

    def batch(self, listed: list[Listed]) -> None:
        """Fetch and record a batch. Raises SourceUnavailable if the server died; answers that arrived are recorded."""
        self.source.prefetch([item.entry for item in listed])
        workers = FETCHERS if self.files.is_local else FETCHERS + UPLOADERS
        with ThreadPoolExecutor(workers) as pool:
            results = list(zip(listed, pool.map(self._fetch_if_alive, listed)))
        fetched = []
        for item, result in results:
            if isinstance(result, SourceUnavailable):
                if self.dead:
                    # The server failed, not this document; the next sync asks again.
                    continue
                result = Fetched(item.entry, None, item.entry.size, str(result))
            if isinstance(result, Left):
                self.left.append(result)
                self.plan.kept -= item.is_new
            elif isinstance(result, Fetched):
                fetched.append(result)
                self._count(item, result)
        self._record(fetched)
        if self.dead:
            reasons = [result for _, result in results if isinstance(result, SourceUnavailable)]
            raise SourceUnavailable(
                f"The source stopped answering: {reasons[-1]}. {self.plan.inserted} new and {self.plan.replaced} "
                "changed documents were fetched and are kept; nothing was deleted. "
                f"Continue from there with: rag ingest {self.stage.source.name}"
            )

    def hold_back(self, documents: int) -> None:
        """Count documents as kept whose new contents were counted as replacements."""
        self.held_back += documents
        self.plan.replaced -= documents
        self.plan.kept += documents

    def _record(self, fetched: list[Fetched]) -> None:
        source = self.stage.source.id
        with self.stage.writer.transaction() as connection:
            replaced = [item for item in fetched if item.gist is not None]
            if replaced:
                at_once = stage_replacements(connection, source, replaced)
                fetched = [x for x in fetched if x.gist is None or x.entry.key in at_once]
            record_fetched(connection, source, fetched)

    def _fetch_if_alive(self, item: Listed) -> Fetched | Left | SourceUnavailable | _Dead:
        if self.dead:
            return _Dead()
        with self._in_memory(item.entry.size or _UNKNOWN_SIZE):
            answer = self._ask(item)
            return self._keep(item, answer) if isinstance(answer, Content) else answer

    def _ask(self, item: Listed) -> Content | Fetched | Left | SourceUnavailable | _Dead:
        entry = item.entry
        with self._fetchers:
            if self.dead:
                return _Dead()
            silent_before = self.silent
            try:
                answer = self._fetch(item)
            except SourceUnavailable as error:
                with self._lock:
                    self.silent += 1
                    self.dead = self.dead or self.silent - self.refuted >= SILENT
                return error
            with self._lock:
                self.refuted = max(self.refuted, silent_before)
        if isinstance(answer, SourceChanging):
            return Left(entry.key, str(answer))
        if isinstance(answer, SourceError):
            return Fetched(entry, None, entry.size, str(answer))
        if answer is None:
            unchanged = replace(entry, change_token=item.previous_token)
            return Fetched(unchanged, item.content_hash, item.size, None)
        return answer

    def _fetch(self, item: Listed) -> Content | SourceError | None:
        """Return the content, or why this document has none. Raises SourceUnavailable."""
        try:
            content = self.source.fetch(item.entry, item.previous_token)
        except SourceError as error:
            if error.transient:
                raise
            return error
        fault_point("entry-read")
        return content

    def _keep(self, item: Listed, content: Content) -> Fetched | Left:
        """Write the bytes to the store, unless they are a part of the content."""
        if content.unfinished and not _continues(item, content):
            return Left(item.entry.key, content.unfinished)
        entry = replace(item.entry, change_token=item.entry.change_token or content.change_token)
        data = wrap(content.data, content.about)
        digest = content_hash(data)
        name = raw_name(digest)
        # In object storage a new content is not looked for first: that costs as much as to write it.
        is_known = digest == item.content_hash or self.files.is_local
        if not is_known or self.files.size(name) != len(data):
            # Not synced to disk: each read verifies the hash, and a damaged file is fetched again.
            self.files.write(name, data, durable=False)
        if not self.guarded or item.is_new or digest == item.content_hash:
            return Fetched(entry, digest, len(data), None)
        body, gist = signature(content.data, entry.key)
        return Fetched(entry, digest, len(data), None, body, gist)

    @contextmanager
    def _in_memory(self, size: int) -> Iterator[None]:
        """Wait until the contents in memory have room for this one."""
        with self._memory:
            self._memory.wait_for(lambda: not self._bytes or self._bytes + size <= BYTES)
            self._bytes += size
        try:
            yield
        finally:
            with self._memory:
                self._bytes -= size
                self._memory.notify_all()

    def _count(self, item: Listed, fetched: Fetched) -> None:
        self.plan.kept -= 1
        if fetched.error is not None:
            self.plan.failed += 1
        elif item.is_new:
            self.plan.inserted += 1
        elif fetched.content_hash != item.content_hash:
            self.plan.replaced += 1
        else:
            # Touched, not changed.
            self.plan.kept += 1


def _continues(item: Listed, content: Content) -> bool:
    """Return whether the content begins with the recorded one: a log that grows is never shorter than before."""
    if not item.size or item.size > len(content.data) or content.about is not None:
        return False
    return content_hash(content.data[: item.size]) == item.content_hash
