"""Edits, crashes, repairs and model changes in any order, on the real stores, compared with a model in memory.

RAG_STATEFUL="examples,steps" (default 2,10; the long form is 1000,50). After every step the stores must match the
model; after a crash, one sync later.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from itertools import count
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from resources import fault_injection
from tests.faults.points import POINTS
from tests.support.embedders import CountingEmbedder
from tests.support.operations import repair
from tests.support.oracle import disagreements
from tests.support.world import World, empty_stores

EXAMPLES, STEPS = map(int, os.environ.get("RAG_STATEFUL", "2,10").split(","))
KEYS = [f"{n}.md" for n in range(4)]
SYNC_POINTS = [point.name for point in POINTS if point.work == "sync"]


class OtherEmbedder(CountingEmbedder):
    """Another model: other vectors for the same texts."""

    texts = 0


MODELS = [CountingEmbedder, OtherEmbedder]


class Crash(BaseException):
    """Simulates a crash: no handler of the product may catch it, so nothing after it happens."""


def text_of(topic: int, version: int) -> str:
    """Six paragraphs. A version changes one of them, so most chunks stay."""
    paragraphs = [
        f"Paragraph {n} of hall {topic} tells of the {n * 7} instruments that stand there, "
        f"made in the year {1600 + topic + n + (version if n == 3 else 0)}. " * 6
        for n in range(6)
    ]
    return f"# Hall {topic}\n\n" + "\n\n".join(paragraphs)


class Sync(RuleBasedStateMachine):
    new_world: ClassVar[Callable[[], World]] = staticmethod(lambda: pytest.fail("no world"))
    tried, died = 0, 0

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).new_world()  # pyright: ignore[reportAttributeAccessIssue]
        self.world.add()
        # Key -> topic and version.
        self.files: dict[str, tuple[int, int]] = {}
        self.history: dict[str, list[tuple[int, int]]] = {}
        self.epoch = 0
        self.embedded: dict[type, set[str]] = {model: set() for model in MODELS}
        for model in MODELS:
            model.texts = 0
        self._use(CountingEmbedder)

    def _use(self, model: type[CountingEmbedder]) -> None:
        self.model = model
        self.current = self.world.configured(embedder=f"{model.__module__}:{model.__name__}")

    def _put(self, key: str, content: tuple[int, int]) -> None:
        self.files[key] = content
        self.history.setdefault(key, []).append(content)
        self.world.write({key: text_of(*content)})

    # Actions of users --------------------------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS), topic=st.integers(0, 3))
    def add_or_replace(self, key: str, topic: int) -> None:
        self._put(key, (topic, 0))
        self.sync()

    @precondition(lambda self: self.files)
    @rule(data=st.data(), version=st.integers(1, 3))
    def edit(self, data: st.DataObject, version: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.files)))
        self._put(key, (self.files[key][0], version))
        self.sync()

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.history)))
        self._put(key, data.draw(st.sampled_from(self.history[key])))
        self.sync()

    @precondition(lambda self: len(self.files) > 1)
    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(sorted(self.files)))
        content = self.files.pop(old)
        (self.world.folder / "docs" / old).unlink()
        self._put(f"renamed-{uuid.uuid4().hex[:4]}.md", content)
        self.sync()

    @precondition(lambda self: len(self.files) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.files)))
        del self.files[key]
        (self.world.folder / "docs" / key).unlink()
        self.sync()
        texts = self.model.texts
        hits = self.current.search(text_of(*self.history[key][-1])[:200], k=20)
        # The query is not one of the documents' texts.
        self.model.texts = texts
        assert {hit.key for hit in hits} <= set(self.files)

    @rule()
    def change_model(self) -> None:
        (other,) = (model for model in MODELS if model is not self.model)
        self._use(other)
        self.current.fill()
        self.current.publish()
        self.verify()

    # Faults ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.files)
    @rule(
        data=st.data(),
        point=st.sampled_from(SYNC_POINTS),
        nth=st.integers(1, 2),
        version=st.integers(4, 6),
    )
    def crash(self, data: st.DataObject, point: str, nth: int, version: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.files)))
        self._put(key, (self.files[key][0], version))
        armed = fault_injection._pass
        passed = 0

        def die(at: str) -> None:
            nonlocal passed
            passed += at == point
            if passed == nth:
                raise Crash(point)

        fault_injection.arm("crash:0")
        fault_injection._pass = die
        try:
            self.current.fill()
        except Crash:
            pass
        except BaseException as error:
            # Dagster wraps the exceptions of a step.
            assert "Crash" in repr(error) or isinstance(error.__cause__, Crash), error
        finally:
            type(self).tried += 1
            type(self).died += passed >= nth
            fault_injection._pass = armed
            fault_injection.arm("")
        # Texts that were embedded but not yet in Parquet are embedded again, and no others.
        self.current.fill()
        self.model.texts = min(self.model.texts, self._texts())
        self.verify()

    @precondition(lambda self: self.history)
    @rule(number=st.integers(0, 5), kind=st.sampled_from(["dense", "sparse"]))
    def damage_and_repair(self, number: int, kind: str) -> None:
        client = self.world.store.client
        rows = client.query(f"{kind}_collection", filter='id >= ""', output_fields=["*"], limit=100)
        if not rows:
            return
        row = dict(sorted(rows, key=lambda row: row["id"])[number % len(rows)])
        if number % 3 == 0:
            client.delete(f"{kind}_collection", ids=[row["id"]])
        elif number % 3 == 1:
            client.upsert(f"{kind}_collection", [row | {"row_fingerprint": "0" * 32}])
        else:
            client.upsert(f"{kind}_collection", [row | {"id": f"{uuid.uuid4()}_{kind}"}])
        # A scan ignores acknowledgements that are younger than a second.
        self.world.connection.execute(
            "UPDATE vector_rows SET acknowledged_at = acknowledged_at - interval '1 minute'"
        )
        assert repair(self.current)["clean"]
        self.verify()

    # Invariants -------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        self.current.fill()
        self.verify()

    def verify(self) -> None:
        connection = self.world.connection
        statuses = connection.execute(
            "SELECT source_key, indexing_status FROM documents"
        ).fetchall()
        assert dict(statuses) == dict.fromkeys(self.files, "completed")
        if self.files:
            settings = self.world.settings
            assert disagreements(settings.postgres_url, settings.milvus_uri) == []
        epochs = connection.execute("SELECT max(epoch) FROM partition_writers").fetchone()
        assert epochs is not None and (epochs[0] or 0) >= self.epoch
        self.epoch = epochs[0] or 0
        stale = self.world.one(
            "SELECT count(*) FROM vector_rows WHERE epoch > (SELECT max(epoch) FROM partition_writers)"
        )
        assert stale == 0
        # Each text is embedded once.
        assert self.model.texts <= self._texts()

    def _texts(self) -> int:
        """The number of texts that there have ever been for this model."""
        hashes = self.world.connection.execute("SELECT DISTINCT text_hash FROM document_chunks")
        self.embedded[self.model] |= {text for (text,) in hashes}
        return len(self.embedded[self.model])


def test_the_stores_match_the_model_after_any_order_of_events(world: World) -> None:
    numbers = count()

    def new_world() -> World:
        number = next(numbers)
        empty_stores(world.connection, world.store)
        folder = world.folder / str(number)
        fresh = world.configured(storage_url=f"{world.settings.storage_url}-{number}")
        return World(fresh.settings, folder, world.dagster, world.connection)

    class Machine(Sync):
        pass

    setattr(Machine, "new_world", staticmethod(new_world))  # noqa: B010
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
            ],
            print_blob=True,
        ),
    )
    # Syncs pass the fault points.
    assert Machine.died or Machine.tried < 6
