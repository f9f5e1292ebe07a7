"""`rag eval compare`: two evaluations of a set, or two models on a set's questions, compared query by query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.exit_codes import run_exit_code
from rag_assets.cli.output import bars, command, note, print_error, print_json, remark, table
from rag_assets.cli.stack import JsonOption
from rag_assets.cli.syncs import Syncs, common_exit_code
from rag_assets.cli.up_to_date import reports_of_up_to_date
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures
from rag_assets.settings.load import embedder_instead
from resources.errors import ConfigError

if TYPE_CHECKING:
    from rag_assets.evaluation.quality import Difference
    from resources.postgres.evaluation.evaluations import ModeResult
    from resources.postgres.evaluation.retrieval_sets import RetrievalSet


@command
def compare(
    a: Annotated[str, typer.Argument(help="Number of an evaluation, or name of an embedder.")],
    b: Annotated[str, typer.Argument(help="Another evaluation of the same set, or embedder.")],
    name: Annotated[
        str | None, typer.Option("--set", help="The questions, to compare two embedders.")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep the collections of an embedder that does not serve."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two evaluations of a set, or two embedders on its questions, query by query.

    An embedder that does not serve embeds the source of the set into collections beside the serving ones, which are
    dropped afterwards; its embeddings stay, so that a switch to it embeds nothing again. p: a paired randomisation
    test, two-sided.

    Examples: rag eval compare 11 12; rag eval compare lexical use --set users
    """
    if a.isdigit() and b.isdigit():
        if name is not None or keep:
            raise ConfigError("--set and --keep: only to compare two embedders.")
        _compare_evaluations(int(a), int(b), as_json)
        return
    if a.isdigit() or b.isdigit():
        raise ConfigError(
            f"Expected two numbers of evaluations, or two names of embedders; found {a} and {b}. "
            "The numbers: rag eval list SET; the names: rag models"
        )
    _compare_models(a, b, name, keep, as_json)


def _compare_evaluations(a: int, b: int, as_json: bool) -> None:
    from rag_assets.evaluation.quality import differences
    from resources.postgres.evaluation.evaluations import get_evaluation

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        before, after = get_evaluation(connection, a), get_evaluation(connection, b)
    if before.set_name != after.set_name:
        raise ConfigError(
            f"Expected two evaluations of one set; {a} is of {before.set_name}, {b} of {after.set_name}."
        )
    rows = differences(before.modes, after.modes, test=True)
    models = {"before": before.model, "after": after.model}
    if as_json:
        print_json({"set": before.set_name, "models": models, "differences": _as_data(rows)})
        return
    title = f"{before.set_name}: models {before.model}, {after.model}"
    _show(title, str(a), str(b), rows)


# Models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    fingerprint: str
    dimension: int
    results: Mapping[str, ModeResult]

    def p50(self, mode: str) -> float:
        return self.results[mode].measures["p50 ms"].value

    def as_dict(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "dimension": self.dimension,
            "p50_ms": {mode: round(self.p50(mode), 3) for mode in self.results},
        }


def _compare_models(a: str, b: str, name: str | None, keep: bool, as_json: bool) -> None:
    from rag_assets.evaluation.quality import differences

    if a == b:
        raise ConfigError(f"Expected two embedders, found {a} twice.")
    configured = Deployment.from_environment()
    # Both are checked before one of them embeds for an hour.
    for embedder in (a, b):
        with embedder_instead(embedder):
            _ = Deployment.from_environment().embedder
    configured.start(dagster=True)
    retrieval_set = _chosen_set(configured, name)
    measured = {
        embedder: _measure(configured, embedder, retrieval_set, keep, as_json)
        for embedder in (a, b)
    }
    before, after = measured.values()
    rows = differences(before.results, after.results, test=True)
    if as_json:
        models = {embedder: model.as_dict() for embedder, model in measured.items()}
        print_json({"set": retrieval_set.name, "models": models, "differences": _as_data(rows)})
        return
    _show(f"{retrieval_set.name}: {retrieval_set.queries} queries", a, b, rows)
    latencies = [
        (mode, f"{before.p50(mode):.1f}", f"{after.p50(mode):.1f}")
        for mode in before.results
        if mode in after.results
    ]
    table("Median of a search without its embedding, ms", ("mode", a, b), latencies)
    for embedder in measured:
        if embedder != configured.settings.embedder:
            note(f"Switch to {embedder}: RAG_EMBEDDER={embedder} rag ingest")


def _chosen_set(deployment: Deployment, name: str | None) -> RetrievalSet:
    from resources.postgres.evaluation.retrieval_sets import get_set, list_sets

    with deployment.postgres().connect(autocommit=True) as connection:
        if name is not None:
            return get_set(connection, name)
        sets = list_sets(connection)
    if len(sets) == 1:
        return sets[0]
    if sets:
        names = ", ".join(item.name for item in sets)
        raise ConfigError(f"Name the questions with --set: expected one of {names}.")
    raise ConfigError(
        "There is no retrieval set yet. Add your own questions: rag eval add NAME --source SOURCE --queries FILE "
        "--relevant FILE; or build one from the corpus: rag eval build NAME --source SOURCE"
    )


def _measure(
    configured: Deployment,
    embedder: str,
    retrieval_set: RetrievalSet,
    keep: bool,
    quiet: bool,
) -> _Measured:
    """Sync the set's source with a model, and measure it. Drop the collections that this made."""
    from rag_assets.evaluation.model_comparison import measure_model, written_collections

    with embedder_instead(embedder):
        candidate = Deployment.from_environment()
        model, postgres = candidate.model_target, candidate.postgres()
        with postgres.connect(autocommit=True) as connection:
            existed = written_collections(connection, model)
        try:
            _sync(candidate, retrieval_set.source, quiet)
            with candidate.open_vectors() as stores, bars(quiet):
                results = measure_model(postgres, stores, retrieval_set, candidate.settings.fusion)
        finally:
            if not keep and not existed and model.fingerprint != configured.model:
                _drop(configured, model.fingerprint)
    return _Measured(model.fingerprint, model.embedder.dimension, results)


def _sync(deployment: Deployment, source: str, quiet: bool) -> None:
    if not quiet:
        remark(f"{deployment.settings.embedder}: {source} is brought up to date")
    if source in reports_of_up_to_date(deployment, [source]):
        return
    deployment.start(dagster=True, indexes=True)
    deployment.sync_partitions()
    (report,) = Syncs(deployment, quiet=quiet).of([source])
    for step, message in report.errors:
        print_error(message, f"{step} failed:")
    if report.errors:
        raise typer.Exit(common_exit_code([report]))


def _drop(deployment: Deployment, fingerprint: str) -> None:
    result = deployment.execute(
        "drop_unpublished_collections", ops={"drop_unpublished": {"model": fingerprint}}
    )
    for _, message in failures(result):
        print_error(message)
    if not result.success:
        raise typer.Exit(run_exit_code(result))


# Output -----------------------------------------------------------------------------------------------------------


def _as_data(rows: Iterable[Difference]) -> list[dict[str, Any]]:
    return [
        {
            "mode": row.mode,
            "measure": row.measure,
            "queries": row.queries,
            "before": row.before,
            "after": row.after,
            "difference": row.change,
            "p": row.p,
        }
        for row in rows
    ]


def _show(title: str, a: str, b: str, rows: Iterable[Difference]) -> None:
    shown = [
        (
            row.mode,
            row.measure,
            row.queries,
            f"{row.before:.4f}",
            f"{row.after:.4f}",
            f"{row.change:+.4f}",
            "" if row.p is None else f"{row.p:.4f}",
        )
        for row in rows
    ]
    table(title, ("mode", "measure", "queries", a, b, "difference", "p"), shown)
