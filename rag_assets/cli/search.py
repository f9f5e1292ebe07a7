"""`rag search`: the best chunks for a text."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from rag_assets.cli.output import command, out, print_json
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment

#: Characters of a chunk that are shown.
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
    mode: Annotated[
        ModeOption | None, typer.Option(help="Default: hybrid where dense and sparse are kept.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    language: Annotated[
        str | None, typer.Option(help="Only documents in this language (ISO 639-1).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search the indexed chunks."""
    deployment = Deployment.from_environment()
    deployment.start()
    hits = deployment.searcher().search(
        text, k=k, mode=mode.value if mode else None, source=source, language=language
    )
    if as_json:
        print_json([hit.as_dict() for hit in hits])
        return
    if not hits:
        out.print("Nothing found.")
    for hit in hits:
        place = " › ".join(part for part in (hit.title, hit.section_title) if part)
        out.print(f"[bold]{hit.rank}.[/] [cyan]{hit.score:.4f}[/] ", end="")
        out.print(place, style="bold", markup=False, end="")
        out.print(
            f"  {hit.source}/{hit.key} #{hit.position} {hit.language or ''}",
            style="dim",
            markup=False,
        )
        excerpt = " ".join(hit.content.split())
        out.print(
            "   " + (excerpt[:EXCERPT] + "…" if len(excerpt) > EXCERPT else excerpt), markup=False
        )
