"""The common shape of the stages: one writer for a source, a plan, and an outcome with its evidence.

What each stage does is in its own module; how Dagster runs a stage is in `assets/run_stage.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, LiteralString, TypeVar

from rag_assets.pipeline import progress
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.shards import Shard
from resources.errors import RagError
from resources.postgres.connection import Connection, Writer
from resources.postgres.registry.sources import SourceRow
from resources.postgres.scope import SyncScope
from resources.postgres.table_sample import sample_rows, table_columns

#: Seconds between two lines of progress in the run's log.
LOG_SECONDS = 10.0


@dataclass
class Stage:
    """One source, or a shard of it, locked by this writer for one stage.

    `label` names the stage in progress bars.
    """

    label: str
    source: SourceRow
    writer: Writer
    log: logging.Logger
    shard: Shard | None = None
    _reported: float = field(default_factory=time.monotonic)

    @property
    def connection(self) -> Connection:
        return self.writer.connection

    @property
    def scope(self) -> SyncScope:
        return SyncScope(self.source.id, self.shard)

    def progress(self, done: int, total: int) -> None:
        progress.report(self.label, self.source.name, done, total)
        if time.monotonic() - self._reported > LOG_SECONDS:
            self._reported = time.monotonic()
            self.log.info(f"{self.source.name}: batch {done} of {total}")


@dataclass(frozen=True)
class Outcome:
    """The result of a stage: the plan as applied, and the number of rows afterwards.

    `columns`: (name, type) of the table. `sample`: some of its rows. `metadata`: further values to show. `tables`:
    name -> rows to show as a table. `error`: why the run must fail at its end, although the stage did its work.
    """

    plan: Plan
    rows: int
    columns: Sequence[tuple[str, str]] = ()
    sample: Sequence[Mapping[str, Any]] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    error: RagError | None = None


L = TypeVar("L")
P = TypeVar("P")


def one_ahead(
    batches: int, load: Callable[[int], L], process: Callable[[L], P]
) -> Iterator[tuple[int, L, P]]:
    """Yield (batch, loaded, processed); a thread processes the next batch while the caller writes this one.

    `load` runs in the caller's thread: it reads temporary tables, which only the writer's session sees.
    """
    with ThreadPoolExecutor(1) as pool:
        loaded = load(0) if batches else None
        processing = pool.submit(process, loaded) if loaded is not None else None
        for batch in range(batches):
            assert loaded is not None
            assert processing is not None
            current, processed = loaded, processing.result()
            if batch + 1 < batches:
                loaded = load(batch + 1)
                processing = pool.submit(process, loaded)
            yield batch, current, processed


def columns_and_sample(
    connection: Connection,
    table: LiteralString,
    columns: Sequence[LiteralString],
    condition: LiteralString,
    parameters: Mapping[str, Any],
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Return the schema of a table, and five of its rows that meet the condition (only `columns`)."""
    rows = sample_rows(connection, table, columns, condition, parameters)
    return table_columns(connection, table), rows
