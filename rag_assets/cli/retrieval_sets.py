"""`rag eval add | build | list | remove`: the retrieval sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.confirmation import RemovalDryRunOption, YesOption, confirm
from rag_assets.cli.output import command, note, out, plural, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import ConfigError

if TYPE_CHECKING:
    from resources.postgres.evaluation.evaluations import Evaluation

NameArgument = Annotated[str, typer.Argument(help="Name of a retrieval set.")]


@command
def add(
    name: NameArgument,
    source: Annotated[str, typer.Option("--source", help="The source to search.")],
    queries: Annotated[Path, typer.Option(help="JSON lines with _id and text (BEIR).")],
    relevant: Annotated[
        Path,
        typer.Option(
            help="Tab-separated query-id, corpus-id (a document's key), score; start and end for passages."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Register a retrieval set from files in BEIR's layout.

    Example: rag eval add questions --source docs --queries queries.jsonl --relevant qrels.tsv
    """
    from rag_assets.pipeline.retrieval_sets import read_judgements, read_queries
    from resources.postgres.evaluation.retrieval_sets import add_set
    from resources.postgres.registry.sources import get_source

    texts = _read(queries, read_queries)
    judgements = _read(relevant, lambda lines: read_judgements(lines, texts))
    judged = {judgement.query for judgement in judgements}
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        kept = {query: text for query, text in texts.items() if query in judged}
        add_set(connection, name, get_source(connection, source), kept, judgements)
    left_out = len(texts) - len(kept)
    if as_json:
        print_json({"set": name, "source": source, "queries": len(kept), "left_out": left_out})
        return
    dropped = f", {left_out} without an answer left out" if left_out else ""
    note(f"{name}: {plural(len(kept), 'query', 'queries')} of {source}{dropped}.")
    note(f"Measure: rag eval --set {name}")


def _read(path: Path, read: Any) -> Any:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return read(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}:\n  {error}") from error


@command
def build(
    name: NameArgument,
    source: Annotated[str, typer.Option("--source", help="The source to search.")],
    queries: Annotated[
        int, typer.Option(min=1, max=10_000, help="Maximum number of queries.")
    ] = 200,
    as_json: JsonOption = False,
) -> None:
    """Build a retrieval set from the source: a sentence of some of its chunks, which must find the chunk.

    Example: rag eval build known --source docs --queries 100
    """
    from rag_assets.evaluation.known_items import build_set

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        count = build_set(connection, name, source, queries)
    if as_json:
        print_json({"set": name, "source": source, "queries": count})
        return
    note(f"{name}: {plural(count, 'query', 'queries')} of {source}.")
    note(f"Measure: rag eval --set {name}")


@command
def list_(
    name: Annotated[str | None, typer.Argument(help="A set, to list its evaluations.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the retrieval sets, or the evaluations of one with their numbers, for `rag eval compare`.

    Example: rag eval list known
    """
    from resources.postgres.evaluation.evaluations import evaluations
    from resources.postgres.evaluation.retrieval_sets import get_set, list_sets

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        sets = [get_set(connection, name)] if name else list_sets(connection)
        limit = None if name else 1
        by_set = {item.name: evaluations(connection, item.name, limit=limit) for item in sets}
    if as_json:
        print_json(
            {
                "sets": [
                    {
                        "set": item.name,
                        "source": item.source,
                        "queries": item.queries,
                        "known_items": item.known_items,
                        "evaluations": [evaluation.as_dict() for evaluation in by_set[item.name]],
                    }
                    for item in sets
                ]
            }
        )
    elif name:
        _show_evaluations(name, by_set[name])
    else:
        rows = [
            (
                *(item.name, item.source, item.queries),
                "corpus" if item.known_items else "files",
                by_set[item.name][0].measured_at if by_set[item.name] else "never",
            )
            for item in sets
        ]
        table("Retrieval sets", ("set", "source", "queries", "from", "measured"), rows)


@command
def remove(
    name: NameArgument,
    yes: YesOption = False,
    dry_run: RemovalDryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a retrieval set and its evaluations. Asks first.

    Example: rag eval remove known --dry-run
    """
    from resources.postgres.evaluation.evaluations import evaluations
    from resources.postgres.evaluation.retrieval_sets import get_set, remove_set

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        queries = get_set(connection, name).queries
        measured = len(evaluations(connection, name))
        parts = f"{plural(queries, 'query', 'queries')}, {plural(measured, 'evaluation')}"
        if not dry_run:
            question = f"Remove retrieval set {name} for good: {parts}?"
            confirm(question, ("eval", "remove", name), yes=yes, as_json=as_json)
            remove_set(connection, name)
    if as_json:
        counts = {"queries": queries, "evaluations": measured}
        print_json({"set": name, "removed": not dry_run, **counts})
        return
    verb = "would be removed" if dry_run else "is removed"
    out.print(f"{name} {verb}: {parts}.", markup=False)


def _show_evaluations(name: str, measured: list[Evaluation]) -> None:
    modes = list(dict.fromkeys(mode for evaluation in measured for mode in evaluation.modes))
    rows = [
        (
            row.id,
            row.measured_at,
            row.model,
            row.queries,
            "yes" if row.accepted_at else "",
            *(
                f"{row.modes[mode].measures['nDCG@10'].value:.3f}" if mode in row.modes else ""
                for mode in modes
            ),
        )
        for row in measured
    ]
    columns = ("evaluation", "measured", "model", "queries", "accepted")
    table(f"Evaluations of {name}", (*columns, *(f"nDCG@10 {mode}" for mode in modes)), rows)
