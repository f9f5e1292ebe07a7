"""`rag search`: the best chunks for a text."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from rag_assets.cli.output import command, out, print_json
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.hits import Hit
from rag_assets.search.request import AccessScope, Filters, SearchRequest

#: Maximum characters of a chunk that are shown.
EXCERPT = 300


class ModeOption(enum.StrEnum):
    dense = "dense"
    sparse = "sparse"
    hybrid = "hybrid"
    multi = "multi"


@command
def search(
    text: Annotated[str, typer.Argument(help="What to search for.")],
    k: Annotated[int, typer.Option("-k", help="How many results.")] = 10,
    offset: Annotated[int, typer.Option(help="Results to skip.")] = 0,
    mode: Annotated[
        ModeOption | None, typer.Option(help="Default: hybrid where dense and sparse are kept.")
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources.")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Only chunks in these languages (ISO 639-1).")
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
    radius: Annotated[
        float | None, typer.Option(help="Only inner products above this (dense, sparse).")
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Order the candidates by MaxSim (needs multi).")
    ] = False,
    by_document: Annotated[
        bool, typer.Option("--by-document", help="Only the best chunk of each document.")
    ] = False,
    neighbours: Annotated[
        int, typer.Option(help="Chunks before and after each result to show.")
    ] = 0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Each stage's milliseconds, candidates and scores.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Search the indexed chunks."""
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
        rerank=rerank,
        by_document=by_document,
        neighbours=neighbours,
    )
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.searcher() as searcher:
        request.validate(searcher.kinds, searcher.limit, problems)
        answer = searcher.answer(request, AccessScope.owner())
    if as_json:
        document = answer.as_dict()
        print_json(document if explain else document["hits"])
        return
    if not answer.hits:
        out.print("Nothing found.")
    terms = _terms(text)
    for hit in answer.hits:
        _print(hit, terms)
    if explain:
        table = Table("stage", "ms", "candidates", *(f"#{hit.rank}" for hit in answer.hits))
        for stage in answer.stages:
            scores = dict(stage.scores)
            table.add_row(
                stage.name,
                f"{stage.milliseconds:.1f}",
                str(len(scores)),
                *(
                    f"{scores[hit.chunk_id]:.4f}" if hit.chunk_id in scores else ""
                    for hit in answer.hits
                ),
            )
        out.print(table)


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


def _terms(text: str) -> re.Pattern[str]:
    """Match the words of the query, to highlight them; in scripts without spaces its pairs of characters."""
    words: set[str] = set()
    for word in re.findall(r"\w{2,}", text):
        spaceless = re.search("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff]", word)
        words |= {word[i : i + 2] for i in range(len(word) - 1)} if spaceless else {word}
    return re.compile(
        "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)", re.I
    )


def _print(hit: Hit, terms: re.Pattern[str]) -> None:
    line = Text.assemble((f"{hit.rank}. ", "bold"), (f"{hit.score:.4f} ", "cyan"))
    line.append(" › ".join(part for part in (hit.title, hit.section_title) if part), "bold")
    page = f" p. {hit.page}" if hit.page else ""
    line.append(f"  {hit.source}/{hit.key} #{hit.position}{page} {hit.language or ''}", "dim")
    out.print(line)
    for passage in (*hit.before, hit.content, *hit.after):
        shown = " ".join(passage.split())
        excerpt = Text("   " + (shown[:EXCERPT] + "…" if len(shown) > EXCERPT else shown))
        excerpt.highlight_regex(terms, "bold yellow")
        if passage is not hit.content:
            excerpt.stylize("dim")
        out.print(excerpt)
    if hit.also_in:
        keys = ", ".join(holder.key for holder in hit.also_in[:3])
        more = f" and {len(hit.also_in) - 3} more" if len(hit.also_in) > 3 else ""
        out.print(Text(f"   also in {keys}{more}", "dim"))
