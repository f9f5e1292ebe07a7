"""The embedders that a deployment can choose from: configured, installed or possible, and how fast each is here.

Nothing is downloaded, and no text is sent to a server.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rag_assets.pipeline.vectors import Embedder, Kind
from resources.errors import ConfigError, RagError
from resources.extras import install_command, is_installed
from resources.open_stores import open_embedder

#: Seconds for which each embedder is measured, after it is loaded.
SECONDS = 2.0
#: Texts in a call of the measurement: a sync's calls are larger, and at most a little faster for each text.
BATCH = 16
#: Queries of which the median duration is taken.
QUERIES = 9


@dataclass(frozen=True, slots=True)
class Choice:
    """A built-in embedder. `extra`: its packages. `local`: its weights are on this machine once these are installed."""

    name: str
    kinds: tuple[Kind, ...]
    languages: str
    advice: str
    extra: str = ""
    local: bool = False


CHOICES = (
    Choice(
        "lexical",
        ("dense", "sparse", "multi"),
        "all",
        "Words, not meanings: names, numbers and exact terms, at once and without a model. The default.",
        local=True,
    ),
    Choice(
        "use",
        ("dense",),
        "16",
        "Meaning, whatever the language of the answer, without a download, fast on any processor. Not for Persian.",
        "use",
        local=True,
    ),
    Choice(
        "e5",
        ("dense",),
        "about 100",
        "Ranks better than use within a language, in more of them, at a twentieth of its speed. Prefers answers in the "
        "question's language.",
        "e5",
        local=True,
    ),
    Choice(
        "sentence-transformers",
        ("dense",),
        "the model's",
        "A model that you know: from the hub or a folder, named by RAG_ST_MODEL.",
        "sentence-transformers",
    ),
    Choice(
        "bge-m3",
        ("dense", "sparse", "multi"),
        "more than 100",
        "Meaning and learned words in one model of 2.3 GB. For machines with a GPU.",
        "bge-m3",
    ),
    Choice(
        "openai",
        ("dense",),
        "the model's",
        "A server with OpenAI's interface, such as TEI, vLLM or Ollama, named by RAG_OPENAI_BASE_URL.",
    ),
)


@dataclass(frozen=True, slots=True)
class Speed:
    """`texts_per_second`: passages of `characters` characters on average. `query_ms`: the median of single queries.

    `load_seconds`: until the first vector, the start of processes and imports included.
    """

    texts_per_second: float
    query_ms: float
    load_seconds: float
    characters: int


@dataclass(frozen=True, slots=True)
class Model:
    """An embedder as it stands here. `dimension`: of its dense vectors, None if unknown. `problem`: why it cannot be
    used as the settings are, or was not measured. `install`: the command that installs its packages, if some are
    missing."""

    name: str
    configured: bool
    installed: bool
    kinds: tuple[Kind, ...]
    languages: str
    advice: str
    model: str = ""
    dimension: int | None = None
    install: str | None = None
    problem: str | None = None
    speed: Speed | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as data for JSON."""
        return asdict(self)


def list_models(
    configured: str,
    options: Callable[[str], Mapping[str, Any]],
    texts: Sequence[str],
    *,
    measure: bool = True,
) -> Iterator[Model]:
    """Yield every built-in embedder, and the configured one if it is the user's own class.

    `options` returns the keyword arguments of an embedder under the present settings, or raises ConfigError. `texts`:
    the passages to measure with.
    """
    own = [] if any(choice.name == configured for choice in CHOICES) else [_own(configured)]
    for choice in (*CHOICES, *own):
        yield _examine(choice, choice.name == configured, options, texts if measure else ())


def _own(name: str) -> Choice:
    return Choice(name, ("dense",), "the class's", "Your own class.", local=True)


def _examine(
    choice: Choice,
    configured: bool,
    options: Callable[[str], Mapping[str, Any]],
    texts: Sequence[str],
) -> Model:
    missing = bool(choice.extra) and not is_installed(choice.extra)
    model = Model(
        choice.name,
        configured,
        not missing,
        choice.kinds,
        choice.languages,
        choice.advice,
        install=install_command(choice.extra) if missing else None,
    )
    if missing:
        return model
    if not choice.local and not configured:
        return replace(model, problem="Measured once it is configured.")
    try:
        arguments = options(choice.name)
        embedder = open_embedder(choice.name, arguments, ("dense",))
        if choice.name == "openai":
            # Its dimension may have to be asked for, and the server may charge for each text.
            return replace(
                model,
                model=str(arguments.get("model", "")),
                dimension=arguments.get("dimensions"),
                problem="Not measured: it is a server.",
            )
        name = str(arguments.get("model") or embedder.identity.get("model", ""))
        model = replace(model, model=name, dimension=embedder.dimension)
        if texts:
            model = replace(model, speed=measure_speed(embedder, texts))
    except RagError as error:
        return replace(model, problem=str(error))
    # Of any type: a user's class, and the libraries below the others.
    except Exception as error:
        return replace(model, problem=f"{type(error).__name__}: {error}")
    return model


def measure_speed(embedder: Embedder, texts: Sequence[str], seconds: float = SECONDS) -> Speed:
    """Embed passages for some seconds, then single queries. Raises ConfigError if it embeds none of them."""
    started = time.perf_counter()
    first = embedder.embed(texts[:1], ("dense",))
    load = time.perf_counter() - started
    if first.failures:
        raise ConfigError(f"It fails even for the sample {texts[0][:40]!r}: {first.failures[0]}")
    done = characters = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        # Different texts: an embedder may keep what it has embedded.
        batch = [f"{texts[n % len(texts)]} {n}" for n in range(done, done + BATCH)]
        embedder.embed(batch, ("dense",))
        done += BATCH
        characters += sum(map(len, batch))
    durations: list[float] = []
    for n in range(QUERIES):
        begun = time.perf_counter()
        embedder.embed_queries([f"{texts[n % len(texts)][:40]} {n}"], ("dense",))
        durations.append(time.perf_counter() - begun)
    return Speed(
        texts_per_second=done / elapsed,
        query_ms=statistics.median(durations) * 1000,
        load_seconds=load,
        characters=round(characters / done),
    )
