"""Another model behind the same name: recognised before anything is embedded, by a check, and by searches."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pytest

from rag_assets.consistency.model_identity import accept_model, judge_model, model_finding
from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.errors import ConfigError, EmbedderUnavailable, OtherModel
from tests.support.embedders import CountingEmbedder
from tests.support.texts import ENGLISH, JAPANESE
from tests.support.world import World


class Served(CountingEmbedder):
    """A server's model whose weights (`key`) can be replaced while its name stays."""

    key = ""
    dtype = "float32"
    down = False

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        if self.down:
            raise EmbedderUnavailable("no response")
        answer = super().embed([self.key + text for text in texts], kinds)
        dense = None if answer.dense is None else answer.dense.astype(self.dtype).astype(np.float32)
        return Embeddings(dense, answer.sparse, answer.multi, tokens=answer.tokens)


def outcome(world: World) -> tuple[str, str | None]:
    stores = world.stores
    finding = model_finding(judge_model(world.connection, stores.files, stores.model), "docs")
    return (finding.outcome if finding.applicable else "not applicable"), finding.remedy


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "before it was recorded"])
def test_another_model_behind_the_same_name_is_recognised(
    world: World, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    world = world.configured(embedder=f"{__name__}:Served", vectors=("dense",))
    assert outcome(world) == ("not applicable", None)
    world.write({"a.md": ENGLISH})
    world.add()
    world.fill()
    if not recorded:
        world.connection.execute("DELETE FROM model_probes")
    assert outcome(world) == ("passed", None)

    embeddings = world.one("SELECT count(*) FROM embeddings")
    monkeypatch.setattr(Served, "key", "other weights ")
    world.write({"b.md": JAPANESE})
    with pytest.raises(OtherModel, match=r"Nothing was embedded\. Another model .*--accept-model"):
        world.fill()
    assert world.one("SELECT count(*) FROM embeddings") == embeddings
    assert outcome(world) == ("failed", "person")
    if recorded:
        with pytest.raises(OtherModel, match="This search cannot be answered"):
            world.search("observatory")
    monkeypatch.setattr(Served, "down", True)
    assert outcome(world) == ("undetermined", "check")

    # With the old weights in another precision all goes on, and the vectors are recorded.
    monkeypatch.setattr(Served, "down", False)
    monkeypatch.setattr(Served, "key", "")
    monkeypatch.setattr(Served, "dtype", "float16")
    world.fill()
    assert world.one("SELECT count(*) FROM embeddings") > embeddings
    assert world.one("SELECT count(*) FROM model_probes") > 0
    assert world.search("observatory") and outcome(world) == ("passed", None)

    # Other weights that a person accepts are the known ones from then on.
    monkeypatch.setattr(Served, "key", "accepted weights ")
    world.write({"c.md": ENGLISH.replace("nine", "ten")})
    accept_model(world.connection, world.stores.model)
    world.fill()
    assert world.search("observatory") and outcome(world) == ("passed", None)


def test_a_searcher_asks_once_and_answers_while_the_comparison_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world.configured(embedder=f"{__name__}:Served", vectors=("dense",))
    world.write({"a.md": ENGLISH})
    world.add()
    world.fill()
    calls: list[int] = []
    embed = Served.embed

    def counted(self: Served, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        calls.append(len(texts))
        if len(calls) == 2:
            raise EmbedderUnavailable("no response")
        return embed(self, texts, kinds)

    monkeypatch.setattr(Served, "embed", counted)
    searcher = world.searcher()
    for n in range(4):
        assert searcher.search(f"observatory {n}", AccessScope.owner())
    # Query, failed comparison; query, comparison of three texts; and no comparison after that.
    assert calls == [1, 3, 1, 3, 1, 1]


class Collapsed(CountingEmbedder):
    """A model whose weights were never loaded."""

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        answer = super().embed(["the same"] * len(texts), kinds)
        return Embeddings(answer.dense, tokens=answer.tokens)


def test_a_model_with_one_vector_for_all_texts_embeds_nothing(world: World) -> None:
    world = world.configured(embedder=f"{__name__}:Collapsed", vectors=("dense",))
    world.write({"a.md": ENGLISH})
    world.add()
    with pytest.raises(ConfigError, match="'Collapsed' returns one and the same vector"):
        world.fill()
    with pytest.raises(ConfigError, match="one and the same vector"):
        accept_model(world.connection, world.stores.model)
    assert world.one("SELECT count(*) FROM embeddings") == 0
    assert world.one("SELECT count(*) FROM model_probes") == 0
