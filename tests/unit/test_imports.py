"""Every module can be imported, so that a broken import fails here within seconds and by its name."""

from __future__ import annotations

import importlib
import pkgutil

import rag_assets
import resources


def test_every_module_can_be_imported() -> None:
    errors = {}
    for package in (rag_assets, resources):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations." in module.name:
                continue
            try:
                importlib.import_module(module.name)
            except Exception as error:
                errors[module.name] = f"{type(error).__name__}: {error}"
    assert errors == {}
