"""Creates an embedder from its configured name: a built-in name, or the user's own `module:Class`.

The embedders are modules of this package and are imported on demand; their protocol is
`rag_assets.pipeline.vectors.Embedder`.
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
    "e5": "resources.embedders.e5:E5Embedder",
    "sentence-transformers": "resources.embedders.sentence_encoders:SentenceTransformerEmbedder",
    "use": "resources.embedders.use:UseEmbedder",
    "openai": "resources.embedders.openai:OpenAIEmbedder",
}
#: Embedders that are a part of another one, for their processes; not for users.
_PARTS = {"sparse-encoder": "resources.embedders.sentence_encoders:SparseEncoderEmbedder"}


def create_embedder(spec: str, **options: Any) -> Embedder:
    """Return the embedder that `spec` names; `options` are the keyword arguments of a built-in one.

    Raises ConfigError with all problems: an unknown name or option, or a class that cannot be imported, cannot be
    created, or lacks a member of the protocol.
    """
    ours = BUILT_IN | _PARTS
    if spec not in ours and ":" not in spec:
        raise ConfigError(
            f"embedder {spec!r}: expected one of {', '.join(BUILT_IN)}, or module:Class"
        )
    cls = _import_class(ours.get(spec, spec))
    parameters = inspect.signature(cls).parameters if spec in ours else ()
    if unknown := sorted(options.keys() - set(parameters)):
        raise ConfigError(
            f"embedder {spec!r} has no option {', '.join(unknown)}: expected {', '.join(parameters) or 'none'}"
        )
    try:
        embedder = cls(**options)
    except ConfigError:
        raise
    except Exception as error:
        # A user's class may raise anything, a built-in one for an option of the wrong type.
        raise ConfigError(f"embedder {spec!r} cannot be created: {_short(error)}") from error
    if spec not in ours and (problems := _problems(embedder)):
        raise ConfigError(
            f"embedder {spec!r} does not follow rag_assets.pipeline.vectors.Embedder:\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )
    return embedder


def _import_class(path: str) -> type[Any]:
    module_name, _, name = path.partition(":")
    # Like `python -m`: the user's module is in the working directory.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        cls = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        # A user's module may raise anything during its import.
        raise ConfigError(f"embedder {path!r} cannot be imported: {_short(error)}") from error
    if not inspect.isclass(cls):
        raise ConfigError(f"embedder {path!r}: expected a class, found {cls!r}")
    return cls


def _problems(embedder: Any) -> list[str]:
    """Return the differences between an object and the `Embedder` protocol."""
    problems = []
    for name in ("dimension", "token_dimension"):
        value = getattr(embedder, name, None)
        if not isinstance(value, int) or value < 1:
            problems.append(f"{name}: expected a positive int, found {value!r}")
    try:
        identity = getattr(embedder, "identity", None)
    # A user's property may raise anything.
    except Exception as error:
        problems.append(f"identity: raises {_short(error)}")
    else:
        is_text = isinstance(identity, Mapping) and all(
            isinstance(part, str) for item in identity.items() for part in item
        )
        if not identity or not is_text:
            problems.append(f"identity: expected a mapping of str to str, found {identity!r}")
    for name in ("embed", "embed_queries"):
        if not callable(getattr(embedder, name, None)):
            problems.append(f"{name}: expected a method (texts, kinds) -> Embeddings")
    return problems


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
