"""Three sources, a scope that sees two of them, and all that it sees: answers, explanations and lists.

The third source, `vault`, is indexed first and has documents with the texts and keys of the others.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag_assets.deployment import Deployment
from rag_assets.operations.lineage import LineageContext, explain, explain_at
from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.hits import Hit
from rag_assets.search.answer import Answer
from rag_assets.search.request import MODES, SearchRequest
from resources.postgres.documents.erasures import request_erasure
from resources.postgres.documents.near_duplicates import near_duplicates
from resources.postgres.registry.sources import get_source
from resources.postgres.registry.visible_sources import visible_sources
from tests.support.near_texts import edited, text
from tests.support.world import World, empty_world

OWNER = AccessScope.owner()
SCOPE = AccessScope("a reader", frozenset({"north", "south"}))
NOTHING = AccessScope("a stranger", frozenset())

LICENCE = "This page is published under the licence of the observatory and may be copied freely by anyone."
NEAR, TWIN = text("en", "near", 100), text("en", "twin", 100)
QUERY = "The observatory opens at nine; its licence and the treasure in the dome"

REQUESTS: Mapping[str, SearchRequest] = {
    **{mode: SearchRequest(QUERY, k=50, mode=mode) for mode in MODES},
    "rerank": SearchRequest(QUERY, k=50, rerank=True),
    "first page": SearchRequest(QUERY, k=3),
    "second page": SearchRequest(QUERY, k=3, offset=3),
    "by document": SearchRequest(QUERY, k=50, by_document=True),
    "relevant": SearchRequest(QUERY, k=50, min_score=0.5),
    "neighbours": SearchRequest(QUERY, k=50, neighbours=2),
    "source in scope": SearchRequest(QUERY, k=50, filters=Filters(source=("north",))),
    "sources in and out of scope": SearchRequest(
        QUERY, k=50, filters=Filters(source=("north", "vault"))
    ),
    "language": SearchRequest(QUERY, k=50, filters=Filters(language=("en",))),
}
DOCUMENTS = ("north/hours.md", "north/near.md", "south/licence.md", "south/near.md")


def pages(source: str) -> dict[str, str]:
    """Texts of a source: one equal in all of them, one nearly equal, and one key with another text."""
    sections = "\n\n".join(
        f"## Room {n} of the {source}\n\nThe {source} opens its room {n} at nine. " + f"{source}{n} " * 40
        for n in range(3)
    )  # fmt: skip
    return {
        "licence.md": f"# Licence\n\n{LICENCE}",
        "hours.md": f"# Hours of the {source}\n\n{sections}",
        "near.md": edited(NEAR, 0.03, random.Random(source)),
    }


@dataclass
class Views:
    """All that one scope sees at one time."""

    answers: Mapping[str, Answer]
    explained: Mapping[str, dict[str, Any]]
    explained_at: Mapping[str, dict[str, Any]]
    near_duplicates: list[Any]
    sources: list[str]

    def as_json(self) -> str:
        answers = {name: answer.as_dict() for name, answer in self.answers.items()}
        return json.dumps(
            {**asdict(replace(self, answers={})), "answers": answers},
            default=str,
            ensure_ascii=False,
        )


@contextmanager
def three_sources(home: Path, postgres_url: str, milvus_uri: str, folder: Path) -> Iterator[World]:
    with empty_world(home, postgres_url, milvus_uri, folder) as plain:
        # All 128 lists of the index: the neighbours of fewer may change when Milvus Lite builds it.
        world = plain.configured(vectors=("dense", "sparse", "multi"), dense_search={"nprobe": 128})
        gold = "gold = 1\n" * 40
        index(
            world,
            "vault",
            {
                "treasure.md": f"# Treasure\n\nThe treasure is in the dome.\n\n```\n{gold}```\n",
                "xylophone.md": "# 宝物\n\n宝物は天文台のドームにあります。ライセンスと九時の開館。",
                "clavichord.md": "# Erased\n\nThe erased treasure of the dome.",
            },
        )
        index(world, "north", {"twin.md": TWIN})
        index(world, "south", {"twin.md": edited(TWIN, 0.03, random.Random(9))})
        index(world, "vault", {"late.md": edited(TWIN, 0.03, random.Random(8))})
        # Every document gets a URL, and with it an earlier version; pages, which only PDFs have, are made up.
        world.connection.execute(
            """UPDATE documents d SET source_url = 'https://' || s.name || '.example/' || d.source_key
               FROM sources s WHERE s.id = d.source_uuid"""
        )
        world.connection.execute("UPDATE document_chunks SET page = position + 1")
        # No rule of the schema keeps the chunk that opens a section in the same document.
        world.connection.execute(
            "UPDATE document_chunks SET parent_chunk_id = %s WHERE document_id = %s AND position = 0",
            [
                chunks(world, document(world, "treasure.md"))[0],
                document(world, "hours.md", "north"),
            ],
        )
        with world.postgres.writer("vault") as writer, writer.transaction() as connection:
            source = get_source(connection, "vault").id
            erased = document(world, "clavichord.md")
            request_erasure(connection, "vault", source, "clavichord.md", erased)
            connection.execute("DELETE FROM document_versions WHERE document_id = %s", [erased])
        # A flush moves rows, and the last digits of their scores with them.
        world.store.wait_for_flush()
        yield world


def index(world: World, source: str, more: Mapping[str, str]) -> None:
    world.write({**pages(source), **more}, source)
    if source not in visible_sources(world.connection, OWNER):
        world.add(source)
    # The runs that read `vault` are secrets, too.
    world.sync(source) if source == "vault" else world.fill(source)


def document(world: World, key: str, source: str = "vault") -> uuid.UUID:
    return world.one(
        """SELECT d.id FROM documents d JOIN sources s ON s.id = d.source_uuid
           WHERE d.source_key = %s AND s.name = %s""",
        key,
        source,
    )


def chunks(world: World, document: uuid.UUID) -> list[uuid.UUID]:
    rows = world.connection.execute(
        "SELECT id FROM document_chunks WHERE document_id = %s ORDER BY position", [document]
    )
    return [chunk for (chunk,) in rows]


def lineage(world: World) -> LineageContext:
    return replace(Deployment(world.settings).lineage(), run_records=lambda _: {})


def look(world: World, scope: AccessScope, requests: Mapping[str, SearchRequest]) -> Views:
    now, context = datetime.now(UTC), lineage(world)
    # A new searcher: term statistics are cached for a minute.
    searcher = world.searcher()
    return Views(
        {name: searcher.answer(request, scope) for name, request in requests.items()},
        {name: explain(context, name, None, scope) for name in DOCUMENTS},
        {name: explain_at(context, name, None, now, scope) for name in DOCUMENTS},
        near_duplicates(world.connection, scope),
        visible_sources(world.connection, scope),
    )


@dataclass
class Seen:
    owner: Views
    scoped: Views
    requests: Mapping[str, SearchRequest]
    #: Texts that only `vault` contains.
    secrets: set[str]
    #: Those of them that are runs.
    runs: set[str]


def observe(world: World) -> Seen:
    """Look at everything as the owner and in the scope, with `vault` in place."""
    rows = world.connection.execute(
        """SELECT d.id::text, c.id::text, e.fetched_run
           FROM documents d
           JOIN document_chunks c ON c.document_id = d.id
           JOIN source_entries e ON e.document_id = d.id
           JOIN sources s ON s.id = d.source_uuid
           WHERE s.name = 'vault'"""
    )
    documents, chunks, runs = map(set, zip(*rows))
    ids = documents | chunks | runs
    secrets = {
        *ids,
        "vault",
        "late.md",
        "treasure.md",
        "xylophone.md",
        "clavichord.md",
        "宝物",
        "gold",
    }
    hits = world.searcher().search(REQUESTS["hybrid"], SCOPE)
    requests = {**REQUESTS, "every hit": replace(REQUESTS["hybrid"], k=len(hits))}
    return Seen(look(world, OWNER, requests), look(world, SCOPE, requests), requests, secrets, runs)


#: Durations differ from search to search, and the threshold is the request's own.
TIMES = {"milliseconds", "min_score"}


def shown(answer: Answer) -> dict[str, object]:
    """An answer without its durations, scores to five digits."""
    return {
        "hits": [rounded(hit) for hit in answer.hits],
        "exhausted": answer.exhausted,
        "hidden": answer.hidden,
        "best_hidden": None if answer.best_hidden is None else round(answer.best_hidden, 5),
        "stages": [
            (stage.name, [(chunk, round(score, 5)) for chunk, score in stage.scores])
            for stage in answer.stages
        ],
    }


def rounded(hit: Hit) -> dict[str, Any]:
    return {**asdict(hit), "score": round(hit.score, 5)}
