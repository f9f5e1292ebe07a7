"""Models that run on this machine: the files that identify them, their device and precision, and their vectors.

Nothing here imports torch or loads a model, except `unit_vectors`, whose argument is a tensor.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Kind
from resources.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16", "auto"]


class ModelSource:
    """The files of a model: a folder, identified by its content and not by its path, or a hub name and its commit.

    `patterns` select the files that determine the vectors.
    """

    def __init__(self, model: str, commit: str, patterns: Sequence[str]) -> None:
        folder = Path(model).expanduser().resolve()
        self.folder = folder if folder.is_dir() else None
        self.model = str(self.folder or model)
        self.commit = commit
        self.patterns = patterns

    @property
    def revision(self) -> str:
        """The commit, or the hash of a folder: hashing 2.3 GB takes seconds, once per process."""
        return folder_hash(self.folder, self.patterns) if self.folder else self.commit

    @property
    def identity(self) -> dict[str, str]:
        return {"model": "folder" if self.folder else self.model, "revision": self.revision}

    def problems(self, setting: str, commit_setting: str, example: str) -> list[str]:
        """Return what is wrong with the arguments, whose names are given."""
        if self.folder:
            if not self.commit:
                return []
            return [
                f"{commit_setting}={self.commit!r}: expected none for the folder {self.model}, its files are hashed"
            ]
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.model):
            return [f"{setting}={self.model!r}: expected a folder or a hub name such as {example}"]
        if not self.commit:
            return [
                f"{commit_setting}: expected a commit of {self.model}, because the hub's branches move"
            ]
        return []


def folder_hash(folder: Path, patterns: Sequence[str]) -> str:
    """Return the SHA-256 of the names and contents of a folder's model files."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        stat = path.stat()
        content = _file_hash(path, stat.st_size, stat.st_mtime_ns)
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


@lru_cache(maxsize=256)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """Return the SHA-256 of a file. Size and time are cache keys: a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(model: str, revision: str, patterns: Sequence[str], setting: str = "model") -> Path:
    """Return the model's folder in the hub cache, with the files of these patterns, downloaded if necessary."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:
        # Offline, unknown, gated, full disk: the hub's errors share no base class.
        raise ConfigError(
            f"{model} at {revision} cannot be downloaded: {error}\n"
            f"Set {setting} to a folder that contains it, or download it with access to the hub:\n"
            f"hf download {model} --revision {revision}"
        ) from error


def cached_folder(model: str, revision: str) -> Path | None:
    """Return the model's folder in the hub cache if its `modules.json` is there; other files may be missing."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model, "modules.json", revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def default_device() -> str:
    """Return every visible CUDA device if torch is built for CUDA, else the CPU. Does not import torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1") or "+cpu" in importlib.metadata.version("torch"):
        return "cpu"
    count = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    if visible is not None:
        count = min(count, len(visible.split(",")))
    return ",".join(f"cuda:{i}" for i in range(count)) or "cpu"


def default_precision(device: str) -> str:
    if device.startswith("cuda"):
        return "fp16"
    cpu = Path("/proc/cpuinfo")
    if device == "cpu" and cpu.is_file() and re.search(r"\b(amx|avx512)_bf16\b", cpu.read_text()):
        return "bf16"
    return "fp32"


def require_device(device: str, setting: str = "device") -> None:
    """Raise ConfigError for a CUDA device without CUDA. Imports torch."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"{setting}={device!r}: torch finds no CUDA device.\nSet {setting}='cpu'."
        )


def unit_vectors(kind: Kind, vectors: Any) -> NDArray[np.float32]:
    """Return a tensor's rows with L2 norm 1. In float32: in bf16, norms would be off by up to 4e-3."""
    vectors = vectors.float()
    norms = vectors.norm(dim=-1, keepdim=True)
    if not bool((norms.isfinite() & (norms > 0)).all()):
        raise ValueError(f"{kind} vectors are not finite, or zero")
    return (vectors / norms).cpu().numpy()
