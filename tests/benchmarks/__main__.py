"""Measures the claims and prints one table: `python -m tests.benchmarks [--rounds 5] [--only ROW ...]`.

Each module measures its rows in a separate process. The measurements are stored in `.benchmarks.json`, so `--only`
renews single rows of the table, which is also written to docs/explanation/benchmarks.md. `--quick` tests the
benchmarks on small corpora and stores nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.claims import CLAIMS, Measured
from tests.benchmarks.rag_command import ROOT
from tests.benchmarks.report import machine, markdown, say, show

RESULTS = ROOT / ".benchmarks.json"
PAGE = ROOT / "docs" / "explanation" / "benchmarks.md"

#: Sizes that only test whether a module works.
QUICK = {
    "ingestion": ["--files", "60"],
    "around_the_model": ["--files", "2", "--layers", "1"],
    "encoder": ["--texts", "24", "--max-length", "128"],
    "full_check": ["--documents", "100"],
    "repeated": ["--documents", "100"],
    "memory": ["--documents", "20", "200"],
    "ranged": ["--sources", "6", "--singles", "2"],
}

TITLE = """# Benchmarks

Measured by `make bench`, A and B in turns within one run: medians of A and of B, the median and the extremes of the
rounds' ratios. Seconds depend on the machine and the hour; the claim is the ratio. Seconds of an ingestion are the sum
of its assets' seconds. Unless the model itself is measured, it costs nothing (a table of vectors).

"""
#: Benchmarks that print their own tables.
BY_HAND = """
## Run by hand
- `python -m tests.benchmarks.growth`: how the cost of loads, syncs, checks, searches, memory and disk grows with the
  number of chunks.
- `make peers`, then `python -m tests.benchmarks.embedded_peers`: the embedded vector search beside Chroma, Qdrant's
  local mode, LanceDB and FAISS, at the same recall.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    rows = [claim.row for claim in CLAIMS]
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=rows, help=", ".join(rows))
    parser.add_argument("--quick", action="store_true", help="one round on little data")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    claims = [claim for claim in CLAIMS if claim.row in (options.only or rows)]
    if options.quick:
        os.environ["RAG_BENCH_QUIET_SECONDS"] = "0"
    stored: dict[str, Any] = {}
    if options.only and not options.quick and RESULTS.exists():
        stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    for module in dict.fromkeys(claim.module for claim in claims):
        module_rows = [claim.row for claim in claims if claim.module == module]
        results = run(module, rounds, module_rows, options.quick)
        stored = merged(stored, module, module_rows, results)
        if not options.quick:
            RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    measured = Measured(stored["pairs"], stored["not_run"], stored["conditions"])
    show(claims, measured)
    if not options.quick:
        PAGE.write_text(page(measured), encoding="utf-8")
        say(f"Written to {PAGE.relative_to(ROOT)}")


def run(module: str, rounds: int, rows: Sequence[str], quick: bool) -> dict[str, Any]:
    """Run a module. Returns its measurements; if it fails, the reason for each row."""
    say(f"{time.strftime('%H:%M:%S')} {module}: {', '.join(rows)}")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "measured.json"
        argv = [sys.executable, "-m", f"tests.benchmarks.{module}", "--rounds", str(rounds)]
        argv += ["--json", str(output), *(QUICK[module] if quick else []), "--only", *rows]
        process = subprocess.Popen(
            argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        last = ""
        for line in process.stderr or ():
            sys.stderr.write(line)
            last = line.strip() or last
        if process.wait() or not output.exists():
            reason = f"{module} exited with {process.returncode}: {last[-200:]}".replace("|", "/")
            return {"pairs": {}, "not_run": dict.fromkeys(rows, reason), "conditions": {}}
        return json.loads(output.read_text(encoding="utf-8"))


def merged(
    stored: dict[str, Any], module: str, rows: Sequence[str], results: dict[str, Any]
) -> dict[str, Any]:
    """The stored measurements with these rows renewed."""
    conditions = {"measured": time.strftime("%Y-%m-%d %H:%M"), **results["conditions"]}
    return {
        **{
            part: {row: value for row, value in stored.get(part, {}).items() if row not in rows}
            | results[part]
            for part in ("pairs", "not_run")
        },
        "conditions": {**stored.get("conditions", {}), module: conditions},
    }


def page(measured: Measured) -> str:
    lines = [TITLE, markdown(CLAIMS, measured), "\n## Measured on and with\n"]
    lines += [f"- {name}: {value}\n" for name, value in machine().items()]
    for module, conditions in measured.conditions.items():
        text = "; ".join(f"{name}: {value}" for name, value in conditions.items())
        lines.append(f"- `{module}`: {text}\n")
    return "".join([*lines, BY_HAND])


if __name__ == "__main__":
    main()
