"""`rag models`: the embedders to choose from, with their speed on this machine. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from rag_assets.cli.output import command, err, is_quiet, note, out, print_json
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment

if TYPE_CHECKING:
    from rag_assets.operations.model_choice import Model


@command
def models(
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure the speed of each here.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """List the embedders: what is configured, installed and possible, and when to take which.

    Each whose weights are on this machine embeds passages in seven languages for two seconds. Nothing is downloaded,
    and nothing is sent to a server.

    Example: rag models --no-measure
    """
    from rag_assets.operations.model_choice import list_models
    from rag_assets.settings.load import embedder_instead, load_settings

    deployment = Deployment.from_environment()
    # Read by the library of the hub when it is imported.
    os.environ["HF_HUB_OFFLINE"] = "1"

    def options(name: str) -> Mapping[str, Any]:
        with embedder_instead(name):
            return load_settings().embedder_options

    listed: list[Model] = []
    show_status = err.is_terminal and not is_quiet() and not as_json
    with err.status("measuring …") if show_status else nullcontext():
        for model in list_models(
            deployment.settings.embedder, options, _samples(), measure=measure
        ):
            listed.append(model)
            if not as_json:
                _show(model)
    if as_json:
        print_json({"models": [model.as_dict() for model in listed]})
        return
    note(
        "Switch: RAG_EMBEDDER=NAME rag ingest. The present model serves until the new one has passed every check."
    )
    note("Compare two on your own questions first: rag eval compare lexical use --set NAME")


def _samples() -> list[str]:
    """Return passages in the languages of the demo: paragraphs of its plain files."""
    from rag_assets.settings.stores import data_file

    files = sorted((data_file("demo") / "corpus").rglob("*.md"))
    texts = [part.strip() for file in files for part in file.read_text("utf-8").split("\n\n")]
    return [text for text in texts if len(text) > 100]


def _show(model: Model) -> None:
    state = "configured" if model.configured else "installed" if model.installed else "possible"
    style = {"configured": "bold green", "installed": "bold", "possible": "bold dim"}[state]
    line = Text.assemble((model.name, style), ("  " + state, "dim"))
    out.print(line.append(f"  {model.model}" if model.model else ""), soft_wrap=True)
    facts = [f"{model.dimension} dimensions" if model.dimension else "", _languages(model)]
    if (speed := model.speed) is not None:
        facts += [
            f"{_short(speed.texts_per_second)} texts/s",
            f"{_short(speed.query_ms)} ms a query",
            f"the first after {speed.load_seconds:.1f} s" if speed.load_seconds > 0.1 else "",
        ]
    for text in (
        " · ".join(filter(None, facts)),
        model.advice,
        model.problem if model.speed is None else None,
    ):
        if text:
            out.print(Padding(Text(text), (0, 0, 0, 2), expand=False))
    if model.install:
        # On one line: users copy it.
        out.print(Text(f"  {model.install}", "dim"), soft_wrap=True)


def _languages(model: Model) -> str:
    known = model.languages[0].isdigit() or model.languages.startswith(("all", "about", "more"))
    return f"{model.languages} languages" if known else f"languages: {model.languages}"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"
