"""`rag search`: the best chunks for a text."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.text import Text

from rag_assets.cli.excerpts import excerpt
from rag_assets.cli.layout import is_right_to_left, plural
from rag_assets.cli.output import command, note, out, print_error, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.hits import Hit
from rag_assets.search.passages import best_passage
from rag_assets.search.request import AccessScope, Filters, Mode, SearchRequest

if TYPE_CHECKING:
    from rag_assets.search.answer import Answer

#: Lines of a passage, and of each neighbour.
PASSAGE_LINES, NEIGHBOUR_LINES = 4, 3
INDENT = "   "
#: If the best result has less relevance, probably none answers. That is right for 91 in 100 questions or more, by
#: language and model (`python -m tests.benchmarks.models --threshold 0.02`); above, it is more often wrong for a
#: handful of documents, whose words say less about how rare a word is.
UNLIKELY = 0.02


class ModeOption(enum.StrEnum):
    dense = "dense"
    sparse = "sparse"
    hybrid = "hybrid"
    multi = "multi"


@command
def search(
    text: Annotated[str, typer.Argument(help="What to search for.")],
    k: Annotated[int, typer.Option("--limit", "-k", help="How many results.")] = 10,
    offset: Annotated[int, typer.Option(help="Results to skip.")] = 0,
    mode: Annotated[
        ModeOption | None,
        typer.Option(
            metavar="MODE",
            help="dense, sparse, hybrid or multi; default: hybrid where dense and sparse are kept.",
        ),
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources.")] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(help="Only chunks in these languages (ISO 639-1), or of unknown language."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only documents that have any of these tags.")
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="Only these categories.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="Only these authors.")] = None,
    chunk_type: Annotated[
        list[str] | None, typer.Option(help="Only such chunks: text, heading, code, table, list.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="NAME=VALUE",
            help="source_type, document, created_from, created_before; repeat it for more.",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            help="Only results of at least this relevance, 0 to 1; default: RAG_MIN_SCORE.",
        ),
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option(
            "--radius",
            help="Only chunks whose dense score is above this; in sparse mode, whose sparse score is.",
        ),
    ] = None,
    rerank: Annotated[
        bool,
        typer.Option(
            "--rerank",
            help="Order the first candidates by RAG_RERANKER; without one by MaxSim (needs multi).",
        ),
    ] = False,
    by_document: Annotated[
        bool, typer.Option("--by-document", help="Only the best chunk of each document.")
    ] = False,
    neighbours: Annotated[
        int,
        typer.Option(
            "--neighbours",
            "--neighbors",
            help="Chunks before and after each result to show.",
        ),
    ] = 0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Each stage's milliseconds, candidates and scores.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Search the indexed chunks, and show the passage of each that fits best.

    The relevance of a result is the estimated probability, 0 to 1, that it
    answers: the same for every search with one model. It is made of the dense
    score, the cosine, and of the sparse score as a share of the greatest that
    the query allows. What has less than --min-score is not shown, and counted.
    """
    conditions = _conditions(
        {
            "source": source,
            "language": language,
            "tags": tag,
            "category": category,
            "author": author,
            "chunk_type": chunk_type,
        },
        condition or [],
    )
    filters, problems = Filters(), list[str]()
    try:
        filters = Filters.of(conditions)
    except ValueError as error:
        problems.append(str(error))
    request = SearchRequest(
        text,
        k=k,
        offset=offset,
        mode=mode.value if mode else None,
        filters=filters,
        radius=radius,
        min_score=min_score,
        rerank=rerank,
        by_document=by_document,
        neighbours=neighbours,
    )
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.searcher() as searcher:
        searcher.validate(request, problems)
        answer = searcher.answer(request, AccessScope.owner())
        used, model = request.mode_among(searcher.kinds), searcher.model
    if answer.not_reranked:
        print_error(f"not reranked: {answer.not_reranked}", label="warning:")
    if as_json:
        print_json(_document(answer, request, used, model, explain))
        return
    for hit in answer.hits:
        _print(hit, text)
    note(_summary(answer, radius))
    if explain:
        _print_stages(answer)


def _conditions(
    options: Mapping[str, list[str] | None], named: Sequence[str]
) -> dict[str, str | list[str]]:
    """Return the conditions of the options, and of NAME=VALUE: times once, the others with every value."""
    conditions: dict[str, str | list[str]] = {
        name: [*values] for name, values in options.items() if values
    }
    for option in named:
        name, equals, value = option.partition("=")
        if not equals:
            raise typer.BadParameter(f"--filter: expected NAME=VALUE, found {option!r}")
        if name.startswith("created_"):
            conditions[name] = value
        elif isinstance(values := conditions.setdefault(name, []), list):
            values.append(value)
    return conditions


def _document(
    answer: Answer, request: SearchRequest, mode: Mode, model: str, explain: bool
) -> dict[str, Any]:
    """Return the answer for --json. `passage_spans`: [start, end) in code points of the passage."""
    hits: list[dict[str, Any]] = []
    for hit in answer.hits:
        passage = best_passage(hit.content, request.text)
        spans = [list(span) for span in passage.spans]
        hits.append({**hit.as_dict(), "passage": passage.text, "passage_spans": spans})
    document: dict[str, Any] = {
        "query": request.text,
        "mode": mode,
        "model": model,
        "took_ms": round(answer.milliseconds, 3),
        "exhausted": answer.exhausted,
        "reranked": answer.reranked,
        "not_reranked": answer.not_reranked,
        "min_score": answer.min_score,
        "hidden": answer.hidden,
        "best_hidden": answer.best_hidden,
        "hits": hits,
    }
    if explain:
        document["stages"] = [stage.as_dict() for stage in answer.stages]
    return document


def _print(hit: Hit, query: str) -> None:
    titles = dict.fromkeys(part for part in (hit.title, hit.section_title) if part)
    title = " › ".join(titles)
    number = f"{hit.rank}. "
    for n, line in enumerate(Text(title, "bold").wrap(out, out.width - len(number))):
        out.print(Text.assemble((number if n == 0 else " " * len(number), "bold"), line))
    page = f"p. {hit.page}" if hit.page else ""
    facts = " · ".join(filter(None, [f"#{hit.position}", page, hit.language or "", *_scores(hit)]))
    place = f"{hit.source}/{hit.key}"
    # Not wrapped: users copy the key. On a line of its own if it is long; or written from right to left, where a
    # terminal would reorder what follows.
    fits = cell_len(f"{INDENT}{place} {facts}") <= out.width and not is_right_to_left(place)
    for line in [f"{place} {facts}"] if fits else [place, facts]:
        out.print(Text(INDENT + line, "dim"), soft_wrap=True)
    for text in hit.before:
        _print_neighbour(text)
    width = out.width - len(INDENT)
    _print_indented(excerpt(best_passage(hit.content, query), PASSAGE_LINES * width - width // 4))
    for text in hit.after:
        _print_neighbour(text)
    if hit.also_in:
        keys = [holder.key for holder in hit.also_in[:3]]
        more = f" and {len(hit.also_in) - 3} more" if len(hit.also_in) > 3 else ""
        line = f"also in {', '.join(keys)}{more}"
        fits = cell_len(INDENT + line) <= out.width
        for text in [line] if fits else [f"also in{more}:", *keys]:
            out.print(Text(INDENT + text, "dim"), soft_wrap=True)


def _scores(hit: Hit) -> list[str]:
    """Return the scores of the hit: the one that orders the hits only if it is none of the others."""
    others = (hit.relevance, hit.dense_score, hit.sparse_score)
    scores = {
        "relevance": hit.relevance,
        "score": None if hit.score in others else hit.score,
        "dense": hit.dense_score,
        "sparse": hit.sparse_score,
    }
    return [f"{name} {score:.3f}" for name, score in scores.items() if score is not None]


def _print_neighbour(text: str) -> None:
    shown = Text(" ".join(text.split()), "dim")
    shown.truncate(NEIGHBOUR_LINES * (out.width - len(INDENT)), overflow="ellipsis")
    _print_indented(shown)


def _print_indented(text: Text) -> None:
    for line in text.wrap(out, out.width - len(INDENT)):
        out.print(Text.assemble(INDENT, line))


def _summary(answer: Answer, radius: float | None) -> str:
    if not answer.hits:
        if answer.best_hidden is not None:
            return (
                f"Nothing found that fits: the best of {plural(answer.hidden, 'result')} has a "
                f"relevance of {answer.best_hidden:.3f}. --min-score 0 shows all."
            )
        return "Nothing found." if radius is None else f"Nothing found above {radius:g}."
    summary = f"{plural(len(answer.hits), 'result')} in {answer.milliseconds:.0f} ms"
    reranking = next((s for s in answer.stages if s.name in ("rerank", "maxsim")), None)
    if answer.reranked and reranking:
        candidates = plural(len(reranking.scores), "candidate")
        summary += f"; rerank {reranking.milliseconds:.0f} ms over {candidates}"
    if answer.hidden:
        summary += f"; {answer.hidden} below --min-score {answer.min_score:g} not shown"
    best = max((hit.relevance for hit in answer.hits if hit.relevance is not None), default=1.0)
    return f"{summary}; probably none answers" if best < UNLIKELY else summary


def _print_stages(answer: Answer) -> None:
    table(
        "Stages",
        ("stage", "ms", "candidates"),
        [(stage.name, round(stage.milliseconds, 1), len(stage.scores)) for stage in answer.stages],
    )
    scored = [(stage.name, dict(stage.scores)) for stage in answer.stages if stage.scores]
    table(
        "Scores of the results in each stage",
        ("result", *(name for name, _ in scored)),
        [
            (hit.rank, *(_number(scores.get(hit.chunk_id)) for _, scores in scored))
            for hit in answer.hits
        ],
    )


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"
