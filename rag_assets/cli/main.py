"""The command `rag`: assembles the commands. Each command is in the module of its name."""

from __future__ import annotations

import typer

from rag_assets.cli import (
    apply,
    check,
    compact,
    credentials,
    demo,
    duplicates,
    evaluation,
    explain,
    forget,
    index,
    ingest,
    rebuild,
    repair,
    search,
    source_views,
    sources,
    stack,
)

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
sources.app.command("list")(source_views.list_)
sources.app.command("show")(source_views.show)
sources.app.command("types")(source_views.types)
sources.app.command("apply")(apply.apply)
sources.app.command("credentials")(credentials.set_credentials)
sources.app.command("rotate-credentials")(credentials.rotate_credentials)
app.command("ingest")(ingest.ingest)
app.command("search")(search.search)
app.command("check")(check.check)
app.command("repair")(repair.repair)
app.command("explain")(explain.explain)
app.command("duplicates")(duplicates.duplicates)
app.add_typer(rebuild.app, name="rebuild")
app.command("compact")(compact.compact)
app.add_typer(evaluation.app, name="eval")
app.add_typer(index.app, name="index")
app.command("forget")(forget.forget)
app.command("demo")(demo.demo)


def main() -> None:
    app()
