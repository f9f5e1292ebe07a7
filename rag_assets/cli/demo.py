"""`rag demo`: ingests the demo corpus with all three kinds of vectors, checks it, and searches it."""

from __future__ import annotations

import json
import os

import typer

from rag_assets.cli.check import check
from rag_assets.cli.ingest import ingest
from rag_assets.cli.output import command, out, table
from rag_assets.deployment import Deployment
from rag_assets.search.request import AccessScope, Filters, SearchRequest
from rag_assets.settings.stores import PROJECT_ROOT

DEMO = PROJECT_ROOT / "demo"


@command
def demo() -> None:
    """Ingest the demo corpus, run every check, and answer questions in several languages."""
    os.environ.setdefault("RAG_VECTORS", "dense,sparse,multi")
    out.rule("Ingest demo/corpus")
    ingest(path=DEMO / "corpus", name="demo")
    out.rule("Check PostgreSQL against Milvus")
    check(source="demo")
    out.rule("Ask")
    all_answered = _ask()
    out.print(
        "Again: make demo    The UI: make ui    Your files: rag ingest DIR, then rag search TEXT"
    )
    if not all_answered:
        raise typer.Exit(1)


def _ask() -> bool:
    """Ask every question. Returns whether the expected document is always among the first three."""
    rows, answered = [], []
    with Deployment.from_environment().searcher() as searcher:
        for question in json.loads((DEMO / "questions.json").read_text(encoding="utf-8")):
            hits = searcher.search(
                SearchRequest(question["text"], k=3, filters=Filters(source=("demo",))),
                AccessScope.owner(),
            )
            answered.append(any(hit.key == question["expect"] for hit in hits))
            best = hits[0] if hits else None
            excerpt = " ".join(best.content.split())[:110] if best else ""
            rows.append(
                (question["language"], question["text"], best.key if best else "nothing", excerpt)
            )
    table("Questions and the best chunk for each", ("lang", "question", "document", "chunk"), rows)
    return all(answered)
