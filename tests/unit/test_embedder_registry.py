"""Embedder names, and the errors for names, classes and options that are invalid."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resources.embedders.registry import create_embedder
from resources.errors import ConfigError

OWN = """
from rag_assets.pipeline.vectors import Embeddings

class Own:
    dimension = 8
    token_dimension = 4
    identity = {"backend": "own"}
    def embed(self, texts, kinds): return Embeddings()
    embed_queries = embed

class Lacking:
    dimension = 0
    identity = {"backend": 1}
    def embed(self, texts, kinds): return Embeddings()

class BrokenIdentity:
    dimension = token_dimension = 8
    @property
    def identity(self): raise OSError("no weights")
    def embed(self, texts, kinds): return Embeddings()
    embed_queries = embed

class NeedsArgument(Own):
    def __init__(self, key): ...

value = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module on the path; its name is unique to the test, because imports are cached."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / f"{name}_broken.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_lexical_is_built_in() -> None:
    embedder = create_embedder("lexical")
    assert embedder.identity["backend"] == "lexical"
    assert embedder.embed(["a word"], {"dense"}).dense is not None


@pytest.mark.parametrize("spec", ["bge", "", "BGE-M3", "LexicalEmbedder"])
def test_the_error_for_an_unknown_name_lists_the_valid_names(spec: str) -> None:
    with pytest.raises(ConfigError) as error:
        create_embedder(spec)
    for part in (repr(spec), "lexical", "bge-m3", "module:Class"):
        assert part in str(error.value)


def test_a_users_own_class_is_created(own: str) -> None:
    embedder = create_embedder(f"{own}:Own")
    assert (embedder.dimension, embedder.token_dimension) == (8, 4)
    assert embedder.identity == {"backend": "own"}


def test_every_missing_member_is_listed(own: str) -> None:
    with pytest.raises(ConfigError) as error:
        create_embedder(f"{own}:Lacking")
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "- dimension",
        "- token_dimension",
        "- identity",
        "- embed_queries",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (":Absent", "Absent"),
        ("_absent:Own", "ModuleNotFoundError"),
        ("_broken:Own", "no_such_library"),
        (":value", "expected a class, found 3"),
        (":NeedsArgument", "'key'"),
        (":BrokenIdentity", "identity: raises OSError: no weights"),
        (":", "cannot be imported"),
    ],
)
def test_an_unusable_own_class_is_an_error_with_the_reason(
    own: str, name: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        create_embedder(own + name)


def test_a_users_own_class_accepts_no_options(own: str) -> None:
    with pytest.raises(ConfigError, match="no option model: expected none"):
        create_embedder(f"{own}:Own", model="x")


def test_the_error_for_an_unknown_option_lists_the_valid_options() -> None:
    with pytest.raises(ConfigError) as error:
        create_embedder("bge-m3", batch_size=3)
    options = ("model", "revision", "max_length", "batch_tokens", "device", "precision")
    for part in ("batch_size", *options):
        assert part in str(error.value)


def test_the_error_for_a_missing_library_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "FlagEmbedding", None)
    with pytest.raises(ConfigError, match=r"pip install .*FlagEmbedding"):
        create_embedder("bge-m3")


def test_bge_m3_lists_every_invalid_argument() -> None:
    with pytest.raises(ConfigError) as error:
        create_embedder(
            "bge-m3", model="/no/such/folder", max_length=9000, batch_tokens=0, precision="int8"
        )
    for part in ("/no/such/folder", "9000", "BATCH_TOKENS=0", "int8"):
        assert part in str(error.value)


def test_a_hub_model_other_than_the_default_needs_a_revision() -> None:
    with pytest.raises(ConfigError, match="revision: expected a commit of someone/their-m3"):
        create_embedder("bge-m3", model="someone/their-m3")
