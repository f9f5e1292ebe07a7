"""Processes that start with all imports: forked from a server that has them, 20 ms instead of 2 to 4 s each."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "tests.faults.driver",
        "rag_assets.cli.main",
        # Loaded by the modules above at first use only.
        "rag_assets.dagster_storage",
        "resources.embedders.lexical",
        "alembic.command",
        "dagster._core.storage.local_compute_log_manager",
        "dagster._core.storage.root",
        "psycopg2",
        "scipy.sparse",
    ]
)


def run_rag(
    arguments: Sequence[str],
    environment: dict[str, str],
    timeout: float = 120,
    folder: str | None = None,
) -> CompletedProcess[str]:
    """Run `rag` as its executable does: in a separate process, with this environment and captured output.

    `folder`: the working folder; None: that of this process.
    """
    with tempfile.TemporaryDirectory() as outputs:
        files = [Path(outputs, name) for name in ("out", "err")]
        process = context.Process(
            target=_rag, args=(list(arguments), environment, files, folder or os.getcwd())
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutExpired(["rag", *arguments], timeout)
        out, err = (file.read_text() for file in files)
    return CompletedProcess(["rag", *arguments], process.exitcode, out, err)


def _rag(arguments: list[str], environment: dict[str, str], files: list[Path], folder: str) -> None:
    for number, file in enumerate(files, 1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["rag", *arguments]
    from rag_assets.cli.main import main
    from rag_assets.cli.output import err, out

    # The server of the forks created the consoles, and its own COLUMNS would count.
    out.width = err.width = int(environment.get("COLUMNS", 80))
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
