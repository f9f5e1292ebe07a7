"""`GET /v1/documents/{id}`: a document with its text, if the caller may see it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel

from rag_assets.pipeline.principal import Principal
from rag_assets.serving.authorization import requires
from rag_assets.serving.routing import new_router
from rag_assets.serving.service import Service, ServiceDependency
from resources.errors import NotFound
from resources.postgres.documents.lineage import Row, read_document

router = new_router()


class DocumentAnswer(BaseModel):
    """A document as it is now. `key`: its name in its source. `version` counts from 1."""

    id: uuid.UUID
    source: str
    key: str
    title: str
    content: str
    url: str | None
    author: str | None
    language: str | None
    category: str | None
    tags: list[str]
    metadata: dict[str, Any]
    mime_type: str | None
    word_count: int
    char_count: int
    chunk_count: int
    processing_status: str
    indexing_status: str
    version: int
    created_at: datetime
    updated_at: datetime
    indexed_at: datetime | None


@router.get("/v1/documents/{document_id}", summary="Read a document")
async def read(
    request: Request,
    document_id: uuid.UUID,
    caller: Annotated[Principal, requires("document:read")],
    service: ServiceDependency,
) -> DocumentAnswer:
    """Return a document with its text. One that the caller may not see is unknown (404)."""
    row = await service.run(_read, service, document_id, caller)
    outcome = "allowed" if row else "denied"
    target = f"document:{document_id}"
    service.note(request, caller, "document.read", {}, target=target, outcome=outcome)
    if row is None:
        raise NotFound(f"There is no document {document_id}.")
    names = {"source": "source_name", "key": "source_key", "url": "source_url"}
    fields = DocumentAnswer.model_fields
    return DocumentAnswer.model_validate({name: row[names.get(name, name)] for name in fields})


def _read(service: Service, document: uuid.UUID, caller: Principal) -> Row | None:
    with service.connections.connection() as connection:
        row = read_document(connection, document, caller.scope)
    return None if row is None else {**row, "tags": row["tags"] or []}
