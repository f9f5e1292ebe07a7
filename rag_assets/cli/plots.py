"""The plots of `rag index tune` and `compare`: recall against time, as an SVG file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag_assets.deployment import Deployment
from resources.errors import ConfigError

if TYPE_CHECKING:
    from rag_assets.pipeline.index_choice import Trial

PlotOption = Annotated[
    Path | None, typer.Option(help="File for the plot (SVG); default: in RAG_HOME.")
]


def expect_writable(plot: Path | None) -> None:
    """Raise ConfigError if the plot cannot be written, before anything is measured."""
    if plot is not None and (plot.is_dir() or not os.access(plot.parent, os.W_OK)):
        raise ConfigError(f"--plot: expected a file in a folder that can be written, found {plot}.")


def write_plot(
    deployment: Deployment,
    path: Path | None,
    name: str,
    title: str,
    trials: Mapping[str, Sequence[Trial]],
) -> Path:
    from rag_assets.pipeline.plot import Point, curves

    points = {
        kind: [
            Point(trial.recall, trial.p50, str(next(iter(trial.search.values()), "")), trial.best)
            for trial in series
        ]
        for kind, series in trials.items()
    }
    path = path or deployment.settings.home / name
    drawing = curves(title, "recall@10", "milliseconds a search (median)", points)
    path.write_text(drawing, encoding="utf-8")
    return path
