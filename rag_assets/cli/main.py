"""The command `rag`: assembles the commands. What each does is in the module named for it."""

from __future__ import annotations

import typer

from rag_assets.cli import check, demo, ingest, repair, search, sources, stack

app = typer.Typer(
    name="rag",
    help="Documents into PostgreSQL, Parquet and Milvus, kept equal and searchable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(stack.up)
app.command("down")(stack.down)
app.command("status")(stack.status)
app.command("ui")(stack.ui)
app.add_typer(sources.app, name="sources")
app.command("ingest")(ingest.ingest)
app.command("search")(search.search)
app.command("check")(check.check)
app.command("repair")(repair.repair)
app.command("demo")(demo.demo)


def main() -> None:
    app()
