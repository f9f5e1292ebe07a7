"""`rag index recommend`: the index that fits some requirements, by rules alone."""

from __future__ import annotations

import enum
import json
import re
from typing import Annotated

import typer

from rag_assets.cli.exit_codes import ExitCode
from rag_assets.cli.output import command, out, print_error, print_json, table
from rag_assets.cli.stack import JsonOption
from resources.errors import ConfigError

RecallOption = Annotated[
    float,
    typer.Option(
        help="Share of the ten nearest neighbours that a search must find.", min=0.5, max=1.0
    ),
]


class ServerOption(enum.StrEnum):
    lite = "lite"
    old = "2.3"
    current = "current"


@command
def recommend(
    rows: Annotated[int, typer.Option(help="Number of chunks.", min=1)],
    memory: Annotated[str, typer.Option(help="Memory of the Milvus server, such as 16GiB.")],
    dim: Annotated[int, typer.Option(help="Dimensions of a vector.", min=2, max=32_768)] = 1024,
    latency_ms: Annotated[float, typer.Option(help="Median latency of a search.", min=0.1)] = 10.0,
    recall: RecallOption = 0.95,
    gpu_memory: Annotated[str, typer.Option(help="Memory of its GPU, if it has one.")] = "0",
    copies: Annotated[
        bool, typer.Option("--copies", help="Hundreds of chunks have equal texts.")
    ] = False,
    server: Annotated[
        ServerOption, typer.Option(help="Milvus Lite, Milvus 2.3, or a current one.")
    ] = ServerOption.current,
    as_json: JsonOption = False,
) -> None:
    """Recommend an index for a number of rows, by rules alone. Measures and starts nothing.

    The rules and their sources: docs/explanation/search-indexes.md.

    Example: rag index recommend --rows 1000000 --memory 16GiB
    """
    from rag_assets.pipeline.index_choice import IndexRequirements, options

    needs = IndexRequirements(
        rows, dim, _bytes(memory), latency_ms, recall, server.value, _bytes(gpu_memory), copies
    )
    candidates = options(needs)
    best = next((option for option in candidates if not option.objections), None)
    if as_json:
        print_json(
            {
                "recommended": best and best.as_dict(),
                "options": [option.as_dict() for option in candidates],
            }
        )
    else:
        lines = [
            (
                option.kind.name,
                f"{option.memory_bytes / 2**30:,.1f}",
                f"{option.milliseconds:,.0f}",
                "recommended" if option is best else "; ".join(option.objections) or "possible",
            )
            for option in candidates
        ]
        table(f"{rows:,} rows of {dim}", ("index", "GiB", "about ms", ""), lines)
    if best is None:
        # Not an exception: with --json it would be a second document.
        reasons = "options show" if as_json else "table shows"
        print_error(
            f"No index meets all requirements. The {reasons} why: allow more memory, more time or less recall."
        )
        raise typer.Exit(ExitCode.WRONG_INPUT)
    if not as_json:
        out.print(f"{best.kind.name}: {best.reason}. Also: {best.kind.note}.", markup=False)
        variables = {"RAG_DENSE_INDEX": best.index, "RAG_DENSE_SEARCH": dict(best.search)}
        for name, value in variables.items():
            out.print(f"{name}='{json.dumps(value)}'", markup=False, soft_wrap=True)
        out.print("Then: rag rebuild milvus; rag index tune measures it on your own questions.")


def _bytes(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ConfigError(f"Expected an amount of memory such as 16GiB, found {text!r}.")
    power = " KMGT".index(match[2].upper() or " ")
    return float(match[1]) * (1024 if match[3] else 1000) ** power
