"""A crash between the upsert to Milvus and its record in PostgreSQL: the row may be old or new; no edit hides that."""

from __future__ import annotations

import pytest

from rag_assets.ingestion import index
from resources.errors import ConfigError
from tests.support.oracle import disagreements
from tests.support.world import World


def test_an_edit_that_is_reverted_after_a_crash_is_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write({"a.md": "# Opening hours\n\nThe observatory opens at nine in the morning.\n"})
    world.add()
    world.fill()

    def crash(*_: object) -> None:
        raise ConfigError("the process ends here")

    with monkeypatch.context() as fault:
        fault.setattr(index, "acknowledge", crash)
        world.connection.execute("UPDATE documents SET language = 'de'")
        with pytest.raises(ConfigError, match="the process ends here"):
            world.fill()
    stores = (world.settings.postgres_url, world.settings.milvus_uri)
    # PostgreSQL claims nothing about rows that may be old or new: this is unfinished work, not drift.
    sentence = world.failed_checks().get("dense_vectors_match_postgres", "0 missing, 0 stale")
    assert "0 missing" in sentence and "0 stale" in sentence
    world.connection.execute("UPDATE documents SET language = 'en'")
    world.fill()
    assert disagreements(*stores) == []
    assert world.failed_checks() == {}
