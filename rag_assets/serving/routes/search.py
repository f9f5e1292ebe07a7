"""`POST /v1/search`: the best chunks for a query, within the caller's scope."""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import datetime
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, Field

from rag_assets.pipeline.hits import Hit
from rag_assets.pipeline.principal import Principal, Target, allowed
from rag_assets.search.request import Filters, Mode, SearchRequest
from rag_assets.serving.authorization import requires
from rag_assets.serving.routing import new_router
from rag_assets.serving.schemas import RequestBody, Text
from rag_assets.serving.service import ServiceDependency
from resources.errors import ConfigError, NotFound

router = new_router()

_Values = Annotated[tuple[Text, ...], Field(max_length=1000)]


class FiltersBody(RequestBody):
    """Conditions, all of which a hit must meet; one value of a condition is enough."""

    source: _Values = ()
    source_type: _Values = ()
    language: _Values = ()
    document: Annotated[tuple[uuid.UUID, ...], Field(max_length=1000)] = ()
    tags: _Values = ()
    category: _Values = ()
    author: _Values = ()
    chunk_type: _Values = ()
    created_from: datetime | None = None
    created_before: datetime | None = None

    def filters(self) -> Filters:
        lists = self.model_dump(exclude={"document", "created_from", "created_before"})
        return Filters(
            **lists,
            document=tuple(map(str, self.document)),
            created_from=self.created_from,
            created_before=self.created_before,
        )


class SearchBody(RequestBody):
    """A search. The defaults are those of the command line."""

    query: Annotated[Text, Field(description="What is searched for.", max_length=100_000)]
    k: int = Field(10, description="Hits, at most.")
    offset: int = Field(0, description="Hits that are left out before the first.")
    mode: Mode | None = Field(None, description="Default: hybrid, if both kinds are kept.")
    filters: FiltersBody = Field(default_factory=FiltersBody)
    radius: float | None = None
    min_score: float | None = Field(None, description="The least relevance of a hit, 0 to 1.")
    rerank: bool = False
    by_document: bool = Field(False, description="Only the best chunk of each document.")
    neighbours: int = Field(0, description="Chunks before and after each hit.")

    def request(self) -> SearchRequest:
        return SearchRequest(
            self.query,
            k=self.k,
            offset=self.offset,
            mode=self.mode,
            filters=self.filters.filters(),
            radius=self.radius,
            min_score=self.min_score,
            rerank=self.rerank,
            by_document=self.by_document,
            neighbours=self.neighbours,
        )


class SearchAnswer(BaseModel):
    """The hits, best first. `hidden`: hits of this page that are less relevant than `min_score`."""

    hits: list[Hit]
    mode: Mode
    model: str
    exhausted: bool
    milliseconds: float
    reranked: bool
    not_reranked: str | None
    min_score: float | None
    hidden: int
    best_hidden: float | None


@router.post("/v1/search", summary="Search")
async def search(
    request: Request,
    body: SearchBody,
    caller: Annotated[Principal, requires("search:read")],
    service: ServiceDependency,
) -> SearchAnswer:
    """Return the best chunks for a query, of the sources that the caller may see."""
    asked = body.request()
    for source in asked.filters.source:
        # Also beside a source of the caller's own, where the search would leave it out without a word.
        if not allowed(caller, "search:read", Target(source=source)):
            service.note(request, caller, "search", {"source": source[:255]}, outcome="denied")
            raise NotFound(f"There is no source {source!r}.")
    searcher = service.searcher
    try:
        answer = await service.search(asked, caller.scope)
    except ConfigError as error:
        if type(error) is not ConfigError or error.__cause__ is not None:
            # Not of the request: another model, or a store.
            raise
        raise ConfigError(_named_as_in_body(str(error))) from None
    documents = sorted({hit.document_id for hit in answer.hits})
    details: dict[str, object] = {
        "query": hashlib.sha256(asked.text.encode()).hexdigest(),
        "sources": caller.scope.visible,
        "hits": len(answer.hits),
        "documents": documents,
    }
    if service.deployment.settings.audit_texts:
        details["text"] = asked.text
    service.note(request, caller, "search", details)
    return SearchAnswer(
        hits=list(answer.hits),
        mode=asked.mode_among(searcher.kinds),
        model=searcher.model,
        exhausted=answer.exhausted,
        milliseconds=round(answer.milliseconds, 3),
        reranked=answer.reranked,
        not_reranked=answer.not_reranked,
        min_score=answer.min_score,
        hidden=answer.hidden,
        best_hidden=answer.best_hidden,
    )


def _named_as_in_body(problems: str) -> str:
    """Return the problems of a search, one a line, with the names that its fields have in the body."""
    names = {"text": "query", **{name: f"filters.{name}" for name in FiltersBody.model_fields}}
    return re.sub(
        r"^(\s*)(\w+)(?=: )", lambda m: m[1] + names.get(m[2], m[2]), problems, flags=re.MULTILINE
    )
