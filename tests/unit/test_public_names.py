"""The public names of `rag_assets`: each can be imported, and type checkers see the same ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rag_assets


def test_every_public_name_can_be_imported() -> None:
    assert {name: getattr(rag_assets, name).__name__ for name in rag_assets.__all__} == {
        name: name for name in rag_assets.__all__
    }
    assert set(rag_assets.__all__) <= set(dir(rag_assets))
    with pytest.raises(AttributeError, match="'Sercher'"):
        _ = rag_assets.Sercher  # pyright: ignore[reportAttributeAccessIssue]


def test_type_checkers_see_the_same_names() -> None:
    """The imports that only they read are the ones that `__getattr__` makes."""
    tree = ast.parse(Path(rag_assets.__file__).read_text(encoding="utf-8"))
    declared = {
        (alias.name, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in rag_assets.__all__
    }
    assert declared == set(rag_assets._MODULES.items())  # pyright: ignore[reportAttributeAccessIssue]
    assert len(declared) == len(rag_assets.__all__)
