"""Processes that start with all imports: forked from a server that has them, 20 ms instead of 2 to 4 s each."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from rag_assets.cli.commands import COMMANDS

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "tests.faults.driver",
        "rag_assets.cli.main",
        *(f"rag_assets.cli.{path.partition(':')[0]}" for path in COMMANDS.values()),
        # Loaded by the modules above at first use only.
        "rag_assets.dagster_storage",
        "resources.embedders.lexical",
        "alembic.command",
        "rag_assets.evaluation.abandoned_trials",
        "rag_assets.identity.api_keys",
        "rag_assets.identity.passwords",
        "rag_assets.identity.users",
        "rag_assets.operations.ingest_messages",
        "rag_assets.operations.ingest_targets",
        "rag_assets.cli.up_to_date",
        "rag_assets.ingestion.up_to_date",
        "dagster._core.definitions.repository_definition.repository_data_builder",
        "dagster._core.execution.execute_in_process",
        "dagster._core.execution.plan.active",
        "dagster._core.executor.in_process",
        "dagster._core.instance.factory",
        "dagster._core.secrets.env_file",
        "dagster._core.storage.local_compute_log_manager",
        "dagster._core.storage.root",
        "grpc._channel",
        "grpc.experimental",
        "ir_measures",
        "psycopg2.extras",
        "pyarrow.pandas_compat",
        "scipy.sparse",
        "typer._adapters",
        "upath.implementations.local",
        "tests.support.frozen_imports",
    ]
)


class Started:
    """A forked program that runs, with the interface of a `Popen` that tests use."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], folder: str, given: str = ""
    ):
        self._command = list(command)
        self._outputs = tempfile.TemporaryDirectory()
        self._files = [Path(self._outputs.name, name) for name in ("out", "err")]
        arguments = (self._command, environment, self._files, folder, given)
        self._process = context.Process(target=_run, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float = 120) -> int:
        return self.finish(timeout).returncode

    def finish(self, timeout: float = 120) -> CompletedProcess[str]:
        """Wait for the end. Raises TimeoutExpired and kills the program if there is none in time."""
        self._process.join(timeout)
        if (code := self.poll()) is None:
            self.kill()
            raise TimeoutExpired(self._command, timeout)
        out, err = (file.read_text() for file in self._files)
        self._outputs.cleanup()
        return CompletedProcess(self._command, code, out, err)


def run_rag(
    arguments: Sequence[str],
    environment: dict[str, str],
    timeout: float = 120,
    folder: str | None = None,
) -> CompletedProcess[str]:
    """Run `rag` as its executable does: in a separate process, with this environment and captured output.

    `folder`: the working folder; None: that of this process.
    """
    return run_program("rag", arguments, environment, timeout, folder)


def start_rag(arguments: Sequence[str], environment: dict[str, str]) -> Started:
    """Start `rag` without waiting for it."""
    return Started(["rag", *arguments], environment, os.getcwd())


def run_program(
    program: str,
    arguments: Sequence[str],
    environment: dict[str, str],
    timeout: float = 120,
    folder: str | None = None,
    standard_input: str = "",
) -> CompletedProcess[str]:
    """Run `rag`, `dagster` or `python`; of Python, a file or (`-`) its standard input. Also `rag` gets that input."""
    command = [program, *arguments]
    return Started(command, environment, folder or os.getcwd(), standard_input).finish(timeout)


def _run(
    command: list[str], environment: dict[str, str], files: list[Path], folder: str, given: str
) -> None:
    for number, file in enumerate(files, 1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = command
    try:
        {"rag": lambda: _rag(given), "dagster": _dagster, "python": lambda: _python(given)}[
            command[0]
        ]()
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _rag(given: str) -> None:
    from rag_assets.cli.main import main
    from rag_assets.cli.output import err, out

    # The server of the forks created the consoles, and its own COLUMNS would count.
    out.width = err.width = int(os.environ.get("COLUMNS", 80))
    if given:
        sys.stdin = io.StringIO(given)
    main()


def _dagster() -> None:
    from dagster._cli import main

    main()


def _python(given: str) -> None:
    del sys.argv[0]
    file = Path(sys.argv[0])
    sys.path.insert(0, "" if file == Path("-") else str(file.parent))
    code = given if file == Path("-") else file.read_text(encoding="utf-8")
    exec(compile(code, str(file), "exec"), {"__name__": "__main__", "__file__": str(file)})
