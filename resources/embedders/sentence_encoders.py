"""Any model of sentence-transformers: an encoder of dense vectors, and one of sparse vectors such as SPLADE.

The library makes the vectors (`sentence_model`); tests compare them with its own `encode`. The loop over batches is our
own (`encoding`): the library's has batches of 32 texts whatever their length, and loses a whole call to one bad text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from rag_assets.pipeline.vectors import Kind
from resources.embedders import sentence_model_files
from resources.embedders.encoding import LocalEmbedder
from resources.embedders.local_models import ModelSource, Precision, cached_folder, download
from resources.embedders.sentence_model import SentenceModel, Task, load
from resources.errors import ConfigError

_SETTINGS = {
    name: f"RAG_ST_{name.upper()}"
    for name in ("model", "revision", "max_length", "batch_tokens", "device", "precision")
}


class _Encoder(LocalEmbedder):
    """The common part of both: the model's files, its loading, its maximum length."""

    library = "sentence_transformers"
    extra = "sentence-transformers"
    settings: ClassVar = _SETTINGS
    example: str

    def __init__(
        self,
        model: str,
        revision: str | None,
        max_length: int | None,
        batch_tokens: int | None,
        device: str | None,
        precision: Precision,
        problems: Sequence[str] = (),
    ) -> None:
        source = ModelSource(model, revision or "", sentence_model_files.MODEL_FILES)
        found = list(problems)
        if max_length is not None and max_length < 3:
            found.append(f"{self.setting('max_length')}={max_length}: expected at least 3 tokens")
        super().__init__(
            source,
            example=self.example,
            max_length=max_length,
            batch_tokens=batch_tokens,
            device=device,
            precision=precision,
            problems=found,
        )
        # A folder's files are at hand; those of a name are checked when it is used.
        if source.folder:
            self._check(source.folder)

    def _check(self, folder: Path) -> None:
        if problems := sentence_model_files.problems(folder, sparse="sparse" in self.kinds):
            raise ConfigError(
                f"{self.setting('model')}={self._source.model} cannot be used:\n"
                + "\n".join(f"- {problem}" for problem in problems)
            )

    @cached_property
    def _files(self) -> Path:
        """The folder with the model's configuration, downloaded if necessary. Raises ConfigError."""
        source = self._source
        if source.folder:
            return source.folder
        folder = cached_folder(source.model, source.commit) or download(
            source.model,
            source.commit,
            sentence_model_files.CONFIG_FILES,
            self.setting("model"),
        )
        self._check(folder)
        return folder

    @cached_property
    def _model(self) -> SentenceModel:
        self._files  # noqa: B018  An unsuitable model's weights are not downloaded.
        return load(
            self.kinds[0],
            self._source.model,
            self.identity["revision"],
            self._max_length,
            self._device,
            self._precision,
        )


class SentenceTransformerEmbedder(_Encoder):
    """Dense vectors of any model of sentence-transformers.

    `model` is a folder, or a hub name, which needs a commit in `revision`. A prompt stands before each query or each
    document; None is the model's own, as in the library's `encode_query` and `encode_document`. `dimensions` keeps the
    first ones: the model must have been trained for it (Matryoshka). `max_length` is in tokens; None is the model's
    own. Longer texts are cut and counted as truncated. Sparse vectors, if any, are those of `sparse`, an encoder of
    `sparse_model`; None if that is not given.

    Raises ConfigError here for invalid arguments and folders, and at first use for a name.
    """

    name = "sentence-transformers"
    kinds: tuple[Kind, ...] = ("dense",)
    example = "sentence-transformers/all-MiniLM-L6-v2"

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        dimensions: int | None = None,
        max_length: int | None = None,
        batch_tokens: int | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        sparse_model: str | None = None,
        sparse_revision: str | None = None,
    ) -> None:
        self._prompts: Mapping[Task, str | None] = {
            "query": query_prompt,
            "document": document_prompt,
        }
        self._dimensions = dimensions
        problems = []
        if dimensions is not None and dimensions < 1:
            problems.append(f"RAG_ST_DIMENSIONS={dimensions}: expected at least 1")
        super().__init__(model, revision, max_length, batch_tokens, device, precision, problems)
        self.sparse: SparseEncoderEmbedder | None = None
        if sparse_model:
            # Its maximum length is its own: that of the dense model may exceed it.
            self.sparse = SparseEncoderEmbedder(
                sparse_model,
                revision=sparse_revision,
                batch_tokens=batch_tokens,
                device=device,
                precision=precision,
            )

    def _check(self, folder: Path) -> None:
        super()._check(folder)
        self._require_dimensions(sentence_model_files.dimension(folder))

    def _require_dimensions(self, available: int | None) -> None:
        if self._dimensions and available and self._dimensions > available:
            raise ConfigError(
                f"RAG_ST_DIMENSIONS={self._dimensions}: {self._source.model} has {available}. Set {available} or "
                "fewer, or leave it empty."
            )

    @cached_property
    def dimension(self) -> int:
        """The dimension of its vectors, from its files; only if these do not name it, from the loaded model."""
        available = sentence_model_files.dimension(self._files) or self._model.dimension
        self._require_dimensions(available)
        return self._dimensions or available

    @property
    def _own_identity(self) -> Mapping[str, str]:
        chosen = {"document_prompt": self._prompts["document"], "dimensions": self._dimensions}
        # Without such a setting, the model's files determine it, and these are identified.
        return {name: str(value) for name, value in chosen.items() if value is not None} | {
            "normalisation": "l2"
        }

    @property
    def _options(self) -> Mapping[str, Any]:
        prompts = {f"{task}_prompt": prompt for task, prompt in self._prompts.items()}
        return {**prompts, "dimensions": self._dimensions}

    def _load(self, queries: bool) -> SentenceModel:
        task: Task = "query" if queries else "document"
        return self._model.with_task(task, self._prompts[task], self.dimension)


class SparseEncoderEmbedder(_Encoder):
    """Sparse vectors of a SparseEncoder of sentence-transformers, such as SPLADE: terms of its tokenizer and weights.

    A row is empty, but not a failure, if no term has a positive weight. Prompts are the model's own.
    """

    name = "sparse-encoder"
    kinds: tuple[Kind, ...] = ("sparse",)
    example = "naver/splade-v3"
    settings: ClassVar = {
        **_SETTINGS,
        "model": "RAG_ST_SPARSE_MODEL",
        "revision": "RAG_ST_SPARSE_REVISION",
    }

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        max_length: int | None = None,
        batch_tokens: int | None = None,
        device: str | None = None,
        precision: Precision = "auto",
    ) -> None:
        super().__init__(model, revision, max_length, batch_tokens, device, precision)

    @property
    def vocabulary(self) -> int | None:
        """The number of terms, or None if the files on this machine do not name it: nothing is downloaded for it."""
        folder = self._source.folder or cached_folder(self._source.model, self._source.commit)
        return sentence_model_files.vocabulary(folder) if folder else None

    @property
    def _own_identity(self) -> Mapping[str, str]:
        return {}

    def _load(self, queries: bool) -> SentenceModel:
        return self._model.with_task("query" if queries else "document", None, None)
