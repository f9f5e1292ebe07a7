"""`rag index tune | compare`: measures search parameters and kinds of index. `recommend` is in index_rules.py."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.index_rules import RecallOption, recommend
from rag_assets.cli.index_trial_server import runnable_kinds, trial_server
from rag_assets.cli.interruptions import interruptible
from rag_assets.cli.output import bars, command, note, out, print_json, progress_lines, table
from rag_assets.cli.plots import PlotOption, expect_writable, write_plot
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.index_kinds import KINDS
from resources.errors import ConfigError

if TYPE_CHECKING:
    from rag_assets.evaluation.index_trials import Compared, Embedded
    from rag_assets.pipeline.index_choice import Trial
    from resources.postgres.connection import Connection

app = typer.Typer(help="Choose the index of dense vectors, and tune it.", no_args_is_help=True)
app.command("recommend")(recommend)

QueriesOption = Annotated[int, typer.Option(help="Number of questions to ask.", min=10, max=10_000)]


@app.command()
@command
def tune(
    source: Annotated[
        str | None, typer.Option("--source", help="Search only in this source.")
    ] = None,
    recall: RecallOption = 0.95,
    queries: QueriesOption = 200,
    write: Annotated[
        bool, typer.Option("--write", help="Write the choice to settings.env, as RAG_DENSE_SEARCH.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write it even if there are too few rows to tune for.")
    ] = False,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure recall and latency for the search parameters of the serving index, on real questions.

    Below 10,000 rows exact search is fast enough, and --write writes nothing.

    Example: rag index tune --recall 0.98
    """
    from rag_assets.evaluation.index_trials import K, ask, measure
    from rag_assets.pipeline.filters import Filters
    from rag_assets.pipeline.index_choice import advice_against_tuning, choose
    from rag_assets.settings.load import write_setting

    expect_writable(plot)
    deployment = Deployment.from_environment()
    settings = deployment.settings
    if write and "RAG_DENSE_SEARCH" in os.environ:
        raise ConfigError(
            "RAG_DENSE_SEARCH is set in the environment, which overrides settings.env. Unset it there first."
        )
    kind = KINDS[settings.dense_index["index_type"]]
    if not kind.search:
        raise ConfigError(f"{kind.name} is exact: it has no search parameters to tune.")
    deployment.start()
    store, embedder = deployment.milvus(), deployment.embedder
    with bars(as_json), deployment.postgres().connect(autocommit=True) as connection:
        rows = _embedded(deployment, connection, source)
        advice = advice_against_tuning(_count(connection, rows))
        vectors, origin = ask(connection, embedder, rows.sources, queries)
        expression = Filters(source=(source,)).expression() if source else ""
        store.wait_for_flush()

        def search(query: Any, params: Any) -> list[str]:
            hits = store.search(
                rows.collection.name, query, limit=K, params=params, filter=expression
            )
            return [hit["id"].rsplit("_", 1)[0] for hit in hits]

        parameters = kind.trials(settings.dense_index.get("params") or {}, K)
        trials = measure(search, vectors, parameters, rows, rows.collection.name)
    chosen = choose(trials, recall)
    title = f"{kind.name}, {len(vectors)} questions ({origin})"
    plot = write_plot(deployment, plot, "index-tune.svg", title, {kind.name: trials})
    value = json.dumps(dict(chosen.search))
    written = write and (force or advice is None)
    if written:
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
                "advice": advice,
                "plot": str(plot),
                "written": written,
            }
        )
        return
    columns = ("search", "recall@10", "p50 ms", "p95 ms", "")
    table(title, columns, [(*_figures(trial), _mark(trial, chosen)) for trial in trials])
    if chosen.recall < recall:
        out.print(f"No parameters reach recall {recall:g}; try: rag index compare", style="yellow")
    if written:
        file = settings.home / "settings.env"
        out.print(f"Written to {file}: RAG_DENSE_SEARCH='{value}'", markup=False, soft_wrap=True)
    elif advice:
        nothing = "Nothing was written. " if write else ""
        out.print(f"{nothing}{advice.capitalize()}.", markup=False, soft_wrap=True)
        note("To write the choice anyway: rag index tune --write --force")
    else:
        note(f"To keep it: rag index tune --write, or RAG_DENSE_SEARCH='{value}'")
    out.print(f"Plot: {plot}", markup=False, soft_wrap=True)


@app.command()
@command
def compare(
    types: Annotated[
        str | None,
        typer.Option(
            help="Index types, separated by commas; default: all that the server has without a GPU."
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(help="Maximum rows; of more, a sample is used.", min=100)
    ] = 100_000,
    url: Annotated[
        str | None,
        typer.Option(help="The Milvus server to build them on; default: the configured one."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The folder of that server's files, if it is on this machine: to measure the size of indexes."
        ),
    ] = None,
    recall: RecallOption = 0.95,
    queries: QueriesOption = 200,
    time_limit: Annotated[
        float,
        typer.Option(
            help="Seconds for all of them; indexes that are not done by then are named.", min=1
        ),
    ] = 900.0,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build several kinds of index on the same vectors, and measure them. Their collection is dropped at the end.

    If the command is killed, the next `rag up` or `rag ingest` drops it.

    Example: rag index compare --types FLAT,HNSW --rows 20000
    """
    from rag_assets.evaluation.index_trials import ask
    from rag_assets.evaluation.index_trials import compare as compare_

    expect_writable(plot)
    deployment = Deployment.from_environment()
    deployment.start()
    with (
        interruptible(),
        progress_lines(as_json),
        bars(as_json),
        deployment.postgres().connect(autocommit=True) as connection,
        trial_server(deployment, url, data, time_limit) as store,
    ):
        kinds = runnable_kinds(store, types)
        everything = _embedded(deployment, connection, None)
        count = _count(connection, everything)
        sample = replace(everything, share=min(1.0, rows / max(1, count)))
        embedder = deployment.embedder
        vectors, origin = ask(connection, embedder, everything.sources, queries)
        results, refused = compare_(store, kinds, sample, min(rows, count), vectors, recall)
        version = store.capabilities.version
    if not results:
        reasons = "\n  ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ConfigError(
            f"No index was measured in {time_limit:g} s (--time-limit, --rows):\n  {reasons}"
        )
    count = results[0].rows
    title = f"{count:,} rows, Milvus {version}, {len(vectors)} questions ({origin})"
    trials = {result.kind.name: result.trials for result in results}
    plot = write_plot(deployment, plot, "index-compare.svg", title, trials)
    if as_json:
        print_json(
            {
                "server": version,
                "rows": count,
                "questions": len(vectors),
                "from": origin,
                "indexes": [result.as_dict() for result in results],
                "refused": refused,
                "plot": str(plot),
            }
        )
        return
    columns = (
        "index", "built s", "MiB", "files MiB", "search", "recall@10", "p50 ms", "p95 ms", "QPS"
    )  # fmt: skip
    table(title, columns, [_row(result) for result in results])
    built = "; ".join(f"{r.kind.name} {_assignments(r.params)}" for r in results if r.params)
    out.print(f"Built with {built}.", markup=False)
    for name, reason in refused.items():
        out.print(f"{name}: {reason}", markup=False, soft_wrap=True)
    out.print(f"Plot: {plot}", markup=False, soft_wrap=True)


# Shared by the commands --------------------------------------------------------------------------------------------


def _embedded(deployment: Deployment, connection: Connection, source: str | None) -> Embedded:
    """Return the rows of the serving dense collection, of one source or of all."""
    from rag_assets.evaluation.index_trials import Embedded
    from resources.postgres.registry.sources import get_source, list_sources
    from resources.postgres.vectors.collections import collections

    serving = collections(connection, kind="dense", states=("serving",))
    if not serving:
        raise ConfigError("No dense vectors are indexed yet. First: rag ingest")
    chosen = [get_source(connection, source)] if source else list_sources(connection)
    return Embedded(connection, deployment.files(), serving[0], chosen)


def _count(connection: Connection, embedded: Embedded) -> int:
    """Count the acknowledged rows of the sources."""
    from resources.postgres.vectors.claims import claimed_rows

    return sum(claimed_rows(connection, embedded.collection, s.id) for s in embedded.sources)


def _assignments(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())


def _figures(trial: Trial) -> tuple[str, ...]:
    return trial.label, f"{trial.recall:.3f}", f"{trial.p50:.1f}", f"{trial.p95:.1f}"


def _row(result: Compared) -> tuple[str, ...]:
    return (
        result.kind.name,
        f"{result.build_seconds:.1f}",
        f"{result.memory_bytes / 2**20:.0f}",
        "" if result.file_bytes is None else f"{result.file_bytes / 2**20:.0f}",
        *_figures(result.chosen),
        f"{result.queries_per_second:.0f}",
    )


def _mark(trial: Trial, chosen: Trial) -> str:
    return "chosen" if trial is chosen else "pareto" if trial.best else ""
