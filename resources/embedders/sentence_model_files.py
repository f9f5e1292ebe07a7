"""What the files of a model of sentence-transformers say before it is loaded: its type, dimension and vocabulary.

`modules.json` lists the modules that compute a vector, each with a folder of its own; the last one that changes the
size of the vector determines the dimension. Reading them costs a millisecond, importing the library ten seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

#: Files that determine the vectors. Modules have folders of their own, those of a router folders in its folder. Weights
#: in other formats than torch's have names or folders of their own (onnx/model.onnx), and no README is among these.
MODEL_FILES = tuple(
    folder + name
    for folder in ("", "*/", "*/*/")
    for name in ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin")
)
#: Files that this module reads.
CONFIG_FILES = ("config*.json", "modules.json", "*/config.json")

_LIBRARY = "sentence_transformers."
#: Modules that keep the size of a vector.
_SAME_SIZE = ("Normalize", "Dropout", "LayerNorm", "WeightedLayerPooling")
#: Modules whose vectors have a number for each term of a vocabulary.
_SPARSE = (
    "MLMTransformer",
    "SpladePooling",
    "SparseAutoEncoder",
    "SparseStaticEmbedding",
    "CSR",
    "IDF",
)
#: What to do with a model that is no encoder of dense vectors.
_OTHER_TYPES = {
    "SparseEncoder": "it makes sparse vectors: set RAG_ST_SPARSE_MODEL to it, and RAG_ST_MODEL to a model of dense "
    "vectors",
    "CrossEncoder": "it is a cross-encoder, which scores pairs of texts and makes no vectors: set RAG_RERANKER_MODEL "
    "to it",
    "MultiVectorEncoder": "it makes multi-vectors: set RAG_EMBEDDER=bge-m3 for such vectors",
}


def problems(folder: Path, *, sparse: bool) -> list[str]:
    """Return why a folder is not a model of sentence-transformers for dense vectors, or for sparse ones."""
    modules = read(folder / "modules.json")
    kind = _type(folder)
    if kind in _OTHER_TYPES and not (sparse and kind == "SparseEncoder"):
        return [_OTHER_TYPES[kind]]
    if not isinstance(modules, list) or not modules:
        return [
            "modules.json is missing, which lists its modules: a folder that SentenceTransformer.save() wrote has it"
        ]
    if sparse and kind != "SparseEncoder":
        return [
            "it makes dense vectors: set RAG_ST_MODEL to it, and RAG_ST_SPARSE_MODEL to a model such as SPLADE"
        ]
    return list(_code_of_its_own(folder, modules))


def dimension(folder: Path) -> int | None:
    """Return the dimension of the model's dense vectors, or None if only the model itself knows it."""
    size: int | None = None
    for module in reversed(_modules(folder)):
        name = module["type"].rpartition(".")[2]
        if name in _SAME_SIZE:
            continue
        config = read(folder / module["path"] / "config.json")
        if name == "Dense":
            size = _number(config, "out_features")
        elif name == "Pooling":
            size = _number(config, "embedding_dimension", "word_embedding_dimension")
            size = size and size * _pooling_modes(config)
        elif name == "Transformer":
            size = _number(config, "hidden_size", "dim", "d_model")
        break
    truncated = _number(read(folder / "config_sentence_transformers.json"), "truncate_dim")
    return min(size, truncated) if size and truncated else size


def vocabulary(folder: Path) -> int | None:
    """Return the number of terms of the model's sparse vectors, or None if only the model itself knows it."""
    modules = _modules(folder)
    if not modules or modules[-1]["type"].rpartition(".")[2] != "SpladePooling":
        return None
    return _number(read(folder / modules[0]["path"] / "config.json"), "vocab_size")


def read(path: Path) -> Any:
    """Return the content of a JSON file, or None if it cannot be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _modules(folder: Path) -> list[dict[str, str]]:
    modules = read(folder / "modules.json")
    return modules if isinstance(modules, list) else []


def _type(folder: Path) -> str:
    """Return the class of the library that the model was saved by; older files do not name it."""
    config = read(folder / "config_sentence_transformers.json")
    if isinstance(config, Mapping) and config.get("model_type"):
        return config["model_type"]
    if any(module["type"].rpartition(".")[2] in _SPARSE for module in _modules(folder)):
        return "SparseEncoder"
    architectures = (read(folder / "config.json") or {}).get("architectures") or []
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return "CrossEncoder"
    return "SentenceTransformer"


def _code_of_its_own(folder: Path, modules: list[dict[str, str]]) -> Iterator[str]:
    for module in modules:
        if not module["type"].startswith(_LIBRARY):
            yield (
                f"its module {module['type']} is code from the hub, which is not supported: it would run with the "
                "rights of this process. Choose a model without code of its own"
            )
        elif module["type"].endswith(".Dense"):
            activation = (read(folder / module["path"] / "config.json") or {}).get(
                "activation_function", "torch."
            )
            if not activation.startswith("torch."):
                # The library would replace it with another one, after a warning.
                yield f"the activation function {activation} of {module['path']} is not torch's, which is not supported"


def _pooling_modes(config: Mapping[str, Any]) -> int:
    """Return how many vectors the pooling joins: each mode adds one."""
    modes = config.get("pooling_mode")
    if modes is not None:
        return 1 if isinstance(modes, str) else len(modes)
    flags = (value for name, value in config.items() if name.startswith("pooling_mode_"))
    return sum(map(bool, flags)) or 1


def _number(config: Any, *names: str) -> int | None:
    values = [config.get(name) for name in names] if isinstance(config, Mapping) else []
    return next((value for value in values if isinstance(value, int)), None)
