"""`rag index tune | compare`: search parameters and kinds of index by measurement; `recommend` is in index_rules.py."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.index_rules import RecallOption, recommend
from rag_assets.cli.output import bars, command, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.index_kinds import KINDS, IndexKind, index_problems
from resources.errors import ConfigError

if TYPE_CHECKING:
    from rag_assets.evaluation.index_trials import Compared, Embedded
    from rag_assets.pipeline.index_choice import Trial
    from resources.milvus.trials import TrialStore
    from resources.postgres.connection import Connection

app = typer.Typer(help="Choose the index of dense vectors, and tune it.", no_args_is_help=True)
app.command("recommend")(recommend)

QueriesOption = Annotated[int, typer.Option(help="Questions to ask.", min=10, max=10_000)]
PlotOption = Annotated[
    Path | None, typer.Option(help="Where the plot (SVG) goes; default: in RAG_HOME.")
]


@app.command()
@command
def tune(
    source: Annotated[
        str | None, typer.Option("--source", help="Search as for this source alone.")
    ] = None,
    recall: RecallOption = 0.95,
    queries: QueriesOption = 200,
    write: Annotated[
        bool, typer.Option("--write", help="Keep the choice: RAG_DENSE_SEARCH in settings.env.")
    ] = False,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure recall and latency over the search parameters of the index that serves, on real questions."""
    from rag_assets.evaluation.index_trials import K, ask, measure
    from rag_assets.pipeline.filters import Filters
    from rag_assets.pipeline.index_choice import choose
    from rag_assets.settings.load import write_setting

    expect_writable(plot)
    deployment = Deployment.from_environment()
    settings = deployment.settings
    if write and "RAG_DENSE_SEARCH" in os.environ:
        raise ConfigError(
            "RAG_DENSE_SEARCH is set in the environment, which counts more than settings.env. Unset it there first."
        )
    kind = KINDS[settings.dense_index["index_type"]]
    if not kind.search:
        raise ConfigError(f"{kind.name} is exact: there is nothing to tune.")
    deployment.start()
    store, embedder = deployment.milvus(), deployment.embedder
    with bars(as_json), deployment.postgres().connect(autocommit=True) as connection:
        rows = _embedded(deployment, connection, source)
        vectors, origin = ask(connection, embedder, rows.sources, queries)
        limits = Filters(source=(source,)).expression() if source else ""
        store.rest()

        def search(query: Any, how: Any) -> list[str]:
            hits = store.search(rows.collection.name, query, limit=K, params=how, filter=limits)
            return [hit["id"].rsplit("_", 1)[0] for hit in hits]

        tried = kind.trials(settings.dense_index.get("params") or {}, K)
        trials = measure(search, vectors, tried, rows, rows.collection.name)
    chosen = choose(trials, recall)
    title = f"{kind.name}, {len(vectors)} questions ({origin})"
    drawn = _plot(deployment, plot, "index-tune.svg", title, {kind.name: trials})
    value = json.dumps(dict(chosen.search))
    if write:
        write_setting(settings.home, "RAG_DENSE_SEARCH", value)
    if as_json:
        print_json(
            {
                "index_type": kind.name,
                "questions": len(vectors),
                "from": origin,
                "trials": [trial.as_dict() for trial in trials],
                "chosen": chosen.as_dict(),
                "recall_reached": chosen.recall >= recall,
                "plot": str(drawn),
                "written": write,
            }
        )
        return
    columns = ("search", "recall@10", "p50 ms", "p95 ms", "")
    table(title, columns, [(*_figures(trial), _mark(trial, chosen)) for trial in trials])
    if chosen.recall < recall:
        out.print(f"None finds {recall:g}; another index may: rag index compare", style="yellow")
    said = "Kept in" if write else "To keep it: rag index tune --write, or"
    where = f" {settings.home / 'settings.env'}:" if write else ""
    out.print(f"{said}{where} RAG_DENSE_SEARCH='{value}'", markup=False, soft_wrap=True)
    out.print(f"Plot: {drawn}", markup=False, soft_wrap=True)


@app.command()
@command
def compare(
    types: Annotated[
        str | None, typer.Option(help="Index types, separated by commas; default: what runs there.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows, at most; a sample.", min=100)] = 100_000,
    url: Annotated[
        str | None,
        typer.Option(help="A Milvus server to try them on; default: the configured one."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The folder of that server's files, if it is here: to weigh indexes."),
    ] = None,
    recall: RecallOption = 0.95,
    queries: QueriesOption = 200,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build several kinds of index on the same vectors, in a collection that is dropped at the end; measure them."""
    from rag_assets.evaluation.index_trials import ask
    from rag_assets.evaluation.index_trials import compare as compare_
    from resources.postgres.vectors.vectors import claimed_rows

    expect_writable(plot)
    deployment = Deployment.from_environment()
    deployment.start()
    with (
        bars(as_json),
        deployment.postgres().connect(autocommit=True) as connection,
        _trials(deployment, url, data) as store,
    ):
        kinds = _runnable(store, types)
        whole = _embedded(deployment, connection, None)
        there = sum(claimed_rows(connection, whole.collection, each.id) for each in whole.sources)
        sample = replace(whole, share=min(1.0, rows / max(1, there)))
        embedder = deployment.embedder
        vectors, origin = ask(connection, embedder, whole.sources, queries)
        found, refused = compare_(store, kinds, sample, min(rows, there), vectors, recall)
        version = store.client.get_server_version()
    if not found:
        raise ConfigError("\n".join(refused.values()))
    count = found[0].rows
    title = f"{count:,} rows, Milvus {version}, {len(vectors)} questions ({origin})"
    drawn = _plot(
        deployment,
        plot,
        "index-compare.svg",
        title,
        {each.kind.name: each.trials for each in found},
    )
    if as_json:
        print_json(
            {
                "server": version,
                "rows": count,
                "questions": len(vectors),
                "from": origin,
                "indexes": [each.as_dict() for each in found],
                "refused": refused,
                "plot": str(drawn),
            }
        )
        return
    columns = (
        "index", "built s", "MiB", "files MiB", "search", "recall@10", "p50 ms", "p95 ms", "QPS"
    )  # fmt: skip
    table(title, columns, [_line(each) for each in found])
    built = "; ".join(f"{each.kind.name} {_said(each.params)}" for each in found if each.params)
    out.print(f"Built with {built}.", markup=False)
    for name, reason in refused.items():
        out.print(f"{name}: {reason}", markup=False, soft_wrap=True)
    out.print(f"Plot: {drawn}", markup=False, soft_wrap=True)


# What the commands share -------------------------------------------------------------------------------------------


def _embedded(deployment: Deployment, connection: Connection, source: str | None) -> Embedded:
    """What the serving dense collection holds, of one source or of all."""
    from rag_assets.evaluation.index_trials import Embedded
    from resources.postgres.registry.sources import get_source, list_sources
    from resources.postgres.vectors.collections import collections

    serving = collections(connection, kind="dense", states=("serving",))
    if not serving:
        raise ConfigError("No dense vectors are indexed yet. First: rag ingest")
    chosen = [get_source(connection, source)] if source else list_sources(connection)
    return Embedded(connection, deployment.files(), serving[0], chosen)


@contextmanager
def _trials(deployment: Deployment, url: str | None, data: Path | None) -> Iterator[TrialStore]:
    """The server to try indexes on. One comparison at a time: the next one drops what it finds."""
    from resources.milvus.trials import TrialStore

    settings, store = deployment.settings, deployment.milvus()
    own = url is None or url == store.uri
    owner = f"{zlib.crc32(str(settings.postgres_url or settings.home).encode()):08x}"
    embedded = settings.home / "milvus" if own and not settings.milvus_uri else None
    trials = TrialStore(
        store.uri if url is None else url,
        store.token if own else "",
        settings.milvus_timeout,
        owner=owner,
        folder=data or embedded,
    )
    with deployment.postgres().connect(autocommit=True) as connection:
        lock = "SELECT pg_try_advisory_lock(hashtextextended('rag-assets index trials', 0))"
        row = connection.execute(lock).fetchone()
        if row is None or not row[0]:
            raise ConfigError("Another rag index compare is at work in this deployment.")
        try:
            yield trials
        finally:
            trials.close()


def _runnable(store: TrialStore, types: str | None) -> list[IndexKind]:
    """The kinds that are named, or all that the server has without a GPU."""
    server = store.server
    if types is None:
        return [kind for kind in KINDS.values() if server in kind.servers and not kind.on_gpu]
    problems, kinds = [], []
    for name in dict.fromkeys(part.strip() for part in types.split(",")):
        problems += index_problems({"index_type": name, "metric_type": "IP"}, server=server)
        kinds += [KINDS[name]] if name in KINDS else []
    if problems:
        raise ConfigError("\n".join(problems))
    return kinds


def expect_writable(plot: Path | None) -> None:
    """Before anything is measured."""
    if plot is not None and (plot.is_dir() or not os.access(plot.parent, os.W_OK)):
        raise ConfigError(f"--plot: expected a file in a folder that can be written, found {plot}.")


def _plot(
    deployment: Deployment,
    path: Path | None,
    name: str,
    title: str,
    trials: Mapping[str, Sequence[Trial]],
) -> Path:
    from rag_assets.pipeline.plot import Point, curves

    series = {
        kind: [
            Point(trial.recall, trial.p50, str(next(iter(trial.search.values()), "")), trial.best)
            for trial in each
        ]
        for kind, each in trials.items()
    }
    path = path or deployment.settings.home / name
    drawing = curves(title, "recall@10", "milliseconds a search (median)", series)
    path.write_text(drawing, encoding="utf-8")
    return path


def _said(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())


def _figures(trial: Trial) -> tuple[str, ...]:
    return trial.label, f"{trial.recall:.3f}", f"{trial.p50:.1f}", f"{trial.p95:.1f}"


def _line(each: Compared) -> tuple[str, ...]:
    return (
        each.kind.name,
        f"{each.build_seconds:.1f}",
        f"{each.memory_bytes / 2**20:.0f}",
        "" if each.file_bytes is None else f"{each.file_bytes / 2**20:.0f}",
        *_figures(each.chosen),
        f"{each.queries_per_second:.0f}",
    )


def _mark(trial: Trial, chosen: Trial) -> str:
    return "chosen" if trial is chosen else "pareto" if trial.best else ""
