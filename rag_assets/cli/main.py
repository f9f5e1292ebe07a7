"""The command `rag`: its common options, its warnings, and its errors. `commands.py` has its commands."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from rag_assets.cli.commands import CommandGroup
from rag_assets.cli.exit_codes import ExitCode
from rag_assets.cli.output import (
    QuietOption,
    VerboseOption,
    facts,
    print_error,
    print_error_json,
    remark,
    set_verbosity,
)
from resources.waiting import listen

app = typer.Typer(
    name="rag",
    cls=CommandGroup,
    help="Documents into PostgreSQL, Parquet and Milvus, kept equal and searchable.",
    epilog="Exit codes: 0 done, 1 a check or sync failed, 2 wrong input, 3 undetermined, 4 a store cannot be reached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    if value:
        from rag_assets.cli.version import versions

        facts("", list(versions().items()))
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the versions of all parts.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    set_verbosity(verbose=verbose, quiet=quiet)


class _Warnings(logging.Handler):
    """Prints warnings of the settings and of the deployment as the command line prints everything else."""

    def emit(self, record: logging.LogRecord) -> None:
        print_error(record.getMessage(), "warning:")


def _report_wait(awaited: str, seconds: float) -> None:
    remark(f"waiting for {awaited} (up to {seconds:g} s)")


def main() -> None:
    for name in ("rag_assets.settings", "rag_assets.deployment"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [_Warnings()], False
    # Ctrl-C between a statement and its answer leaves a transaction that cannot be rolled back. Its connection is
    # closed next, which does the same; the driver's line would stand beside our own about the interruption.
    logging.getLogger("psycopg.transaction").setLevel(logging.ERROR)
    listen(_report_wait)
    if "--json" not in sys.argv:
        app()
    # A program gets its errors as JSON, also those of the options.
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else ExitCode.OK)
    except typer.Abort:
        print_error("aborted")
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        # Broad, since Typer's usage errors have no public class here; all others are raised again.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        message = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        print_error_json("UsageError", message, ExitCode.WRONG_INPUT)
        sys.exit(ExitCode.WRONG_INPUT)
