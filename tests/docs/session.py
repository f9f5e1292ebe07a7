"""Runs the blocks of a page as a reader would type them, in one shell, and returns the output of each.

`rag`, `dagster` and `python` on the PATH are a small client: the command runs in a process forked from one that has
its imports (2 to 4 s less each). `make` only shows what it would do. Addresses that pages use as examples become those
of real servers.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.docs.pages import PYTHON, ROOT, Block
from tests.support.processes import run_program

#: The longest time that the blocks of one page may take.
PAGE_SECONDS = 300
_MARK = "\x1e block "

_CLIENT = f"""#!{sys.executable} -SE
import json, os, socket, sys
program = os.path.basename(sys.argv[0])
if program == "python" and sys.argv[1] == "-c":
    os.execv({sys.executable!r}, ["python", *sys.argv[1:]])
given = sys.stdin.read() if sys.argv[1:] == ["-"] else ""
server = socket.socket(socket.AF_UNIX)
server.connect(os.environ["RAG_DOCS_SOCKET"])
file = server.makefile("rw")
json.dump([program, sys.argv[1:], dict(os.environ), os.getcwd(), given], file)
file.write("\\n")
file.flush()
answer = json.loads(file.readline())
sys.stdout.write(answer["out"])
sys.stdout.flush()
sys.stderr.write(answer["err"])
sys.exit(answer["code"])
"""
_MAKE = f'#!/bin/sh\nexec "$REAL_MAKE" --dry-run --always-make -C "{ROOT}" "$@"\n'


@dataclass
class Run:
    """The outcome of a page's blocks: the output of those that began, and the exit code of the shell."""

    outputs: list[str]
    code: int


class _Commands(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        program, arguments, environment, folder, given = json.loads(self.rfile.readline())
        process = run_program(program, arguments, environment, folder=folder, standard_input=given)
        answer = {"out": process.stdout, "err": process.stderr, "code": process.returncode}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


@contextmanager
def command_server(folder: Path) -> Iterator[dict[str, str]]:
    """Put the programs into a folder, and yield the variables with which a shell finds them."""
    binaries, socket = folder / "bin", folder / "rag.socket"
    binaries.mkdir()
    codes = dict.fromkeys(("rag", "dagster", "python"), _CLIENT) | {"make": _MAKE}
    for name, code in codes.items():
        (binaries / name).write_text(code)
        (binaries / name).chmod(0o755)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAG_", "DAGSTER_", "PYTEST_"))
    }
    environment = inherited | {
        "PATH": f"{binaries}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REAL_MAKE": next(
            str(Path(each, "make")) for each in os.get_exec_path() if Path(each, "make").exists()
        ),
        "RAG_DOCS_SOCKET": str(socket),
        "COLUMNS": "100",
        "PYTHONPATH": str(ROOT),
    }
    with socketserver.ThreadingUnixStreamServer(str(socket), _Commands) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield environment
        finally:
            server.shutdown()


def run_blocks(
    blocks: list[Block], folder: Path, environment: dict[str, str], addresses: Mapping[str, str]
) -> Run:
    """Run blocks in one shell in `folder` until one fails. `addresses`: example -> the real address."""
    script = ["set -e -o pipefail", "exec 2>&1"]
    for number, (language, group) in enumerate(groupby(blocks, lambda block: block.language)):
        codes = []
        for block in group:
            code = block.code
            for example, real in addresses.items():
                code = code.replace(example, real)
            codes.append(code)
        if language == PYTHON:
            # Blocks that follow one another share a process: its imports take seconds.
            file = folder / f".blocks-{number}.py"
            mark = f"print({_MARK!r}, flush=True)"
            file.write_text("\n".join(line for code in codes for line in (mark, code)) + "\n")
            script.append(f"python {file.name}")
        else:
            script += [line for code in codes for line in (f"printf '%s\\n' '{_MARK}'", code)]
    process = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PAGE_SECONDS,
    )
    return Run(process.stdout.split(_MARK + "\n")[1:], process.returncode)
