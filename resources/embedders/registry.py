"""Which embedder a configuration's word means: a built-in name, or the user's own `module:Class`.

The embedders are modules beside this one and are imported when they are asked for; what one must
offer is `rag_assets.pipeline.vectors.Embedder`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

from rag_assets.pipeline.vectors import Embedder
from resources.errors import ConfigError

BUILT_IN = {
    "lexical": "resources.embedders.lexical:LexicalEmbedder",
    "bge-m3": "resources.embedders.bge_m3:BgeM3Embedder",
    "openai": "resources.embedders.openai:OpenAIEmbedder",
}


def create_embedder(spec: str, **options: Any) -> Embedder:
    """The embedder that `spec` names; `options` are the keyword arguments of a built-in one.

    Raises `ConfigError` with everything that is wrong: an unknown name or option, a class that
    cannot be imported or made, or lacks a member of the protocol.
    """
    if spec not in BUILT_IN and ":" not in spec:
        raise ConfigError(
            f"embedder {spec!r}: expected one of {', '.join(BUILT_IN)}, or module:Class"
        )
    cls = _import_class(BUILT_IN.get(spec, spec))
    known = inspect.signature(cls).parameters if spec in BUILT_IN else ()
    if unknown := sorted(options.keys() - set(known)):
        raise ConfigError(
            f"embedder {spec!r} has no option {', '.join(unknown)}: expected {', '.join(known) or 'none'}"
        )
    try:
        embedder = cls(**options)
    except ConfigError:
        raise
    except Exception as error:
        # Whatever a user's class raises, or a built-in one for an option of the wrong type.
        raise ConfigError(f"embedder {spec!r} cannot be made: {_short(error)}") from error
    if spec not in BUILT_IN and (problems := _problems(embedder)):
        raise ConfigError(
            f"embedder {spec!r} does not follow rag_assets.pipeline.vectors.Embedder:\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )
    return embedder


def _import_class(path: str) -> type[Any]:
    module_name, _, name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(
            os.getcwd()
        )  # as `python -m` does: the user's module lies where the command is run
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        # Whatever a user's module raises while it is imported.
        raise ConfigError(f"embedder {path!r} cannot be imported: {_short(error)}") from error
    if not inspect.isclass(found):
        raise ConfigError(f"embedder {path!r}: expected a class, found {found!r}")
    return found


def _problems(embedder: Any) -> list[str]:
    """What an object lacks to be an `Embedder`."""
    problems = []
    for name in ("dimension", "token_dimension"):
        value = getattr(embedder, name, None)
        if not isinstance(value, int) or value < 1:
            problems.append(f"{name}: expected a positive int, found {value!r}")
    try:
        identity = getattr(embedder, "identity", None)
    except Exception as error:  # whatever a user's property raises
        problems.append(f"identity: raises {_short(error)}")
    else:
        texts = isinstance(identity, Mapping) and all(
            isinstance(part, str) for item in identity.items() for part in item
        )
        if not identity or not texts:
            problems.append(f"identity: expected a mapping of str to str, found {identity!r}")
    for name in ("embed", "embed_queries"):
        if not callable(getattr(embedder, name, None)):
            problems.append(f"{name}: expected a method (texts, kinds) -> Embeddings")
    return problems


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
