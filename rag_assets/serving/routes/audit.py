"""`/v1/audit`: the records of the audit, their verification and their export.

A caller without limits of accounts sees all records. Another one sees its own, and those of users all of whose grants
are within its accounts; it cannot verify or export the chain, which has the records of all accounts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from rag_assets.identity.audit_anchors import read_anchors
from rag_assets.identity.audit_verification import export_lines, verify_database
from rag_assets.pipeline.audit_record import AuditRecord, Outcome
from rag_assets.pipeline.principal import Principal
from rag_assets.serving.authorization import requires
from rag_assets.serving.routing import new_router
from rag_assets.serving.schemas import Text
from rag_assets.serving.service import Service, ServiceDependency
from resources.errors import Forbidden, Overloaded
from resources.postgres.identity.audit_queries import AuditFilters, AuditReader, list_records

router = new_router()

#: One verification at a time in each process: it computes a hash for each record.
_verifying = threading.Lock()

_Filter = Annotated[Text, Field(max_length=500)]


class AuditQuery(BaseModel):
    """Filters. `action`: one action, or a subject for all of its actions. `cursor`: `next` of the page before."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    principal: _Filter = ""
    action: _Filter = ""
    outcome: Outcome | None = None
    target: _Filter = ""
    limit: int = Field(50, ge=1, le=100)
    cursor: int | None = Field(None, ge=1, lt=1 << 63)


class RecordAnswer(BaseModel):
    """A record of the audit. `sequence`: its place in the chain."""

    sequence: int
    recorded_at: datetime
    occurred_at: datetime
    action: str
    outcome: str
    principal: str
    target: str
    request_id: str
    address: str
    details: Any


class RecordsAnswer(BaseModel):
    """A page, the newest record first. `next`: the cursor of the next page; null: this is the last one."""

    records: list[RecordAnswer]
    next: int | None


class ProblemAnswer(BaseModel):
    """A problem that the records `first` to `last` show. `since`: the first record that may be changed. `by_anchor`: an
    anchor shows it, not the chain itself.
    """

    kind: Literal["edited", "removed", "inserted", "rechained"]
    first: int
    last: int
    since: int
    message: str
    by_anchor: bool


class VerificationAnswer(BaseModel):
    """The outcome of a verification. `anchors`: how many heads that are kept outside the database were compared."""

    verified: bool
    records: int
    head: int
    head_hash: str
    anchors: int
    problem_count: int
    problems: list[ProblemAnswer]


@router.get("/v1/audit", summary="List the audit")
def list_audit(
    query: Annotated[AuditQuery, Query()],
    caller: Annotated[Principal, requires("audit:read")],
    service: ServiceDependency,
) -> RecordsAnswer:
    """Return records that the caller may see, the newest first."""
    filters = AuditFilters(
        query.since, query.until, query.principal, query.action, query.outcome or "", query.target
    )
    reader = AuditReader(caller.user_id, caller.scope.accounts)
    with service.connections.connection() as connection:
        # One more than asked for tells whether there is a next page.
        rows = list_records(connection, reader, filters, before=query.cursor, limit=query.limit + 1)
    page = rows[: query.limit]
    return RecordsAnswer(
        records=[RecordAnswer(**row._asdict()) for row in page],
        next=page[-1].sequence if len(rows) > len(page) else None,
    )


@router.get("/v1/audit/verify", summary="Verify the audit")
def verify(
    request: Request,
    caller: Annotated[Principal, requires("audit:read", cost=20)],
    service: ServiceDependency,
) -> VerificationAnswer:
    """Verify the whole chain, and compare it with the anchors that this machine has."""
    _require_everything(caller)
    if not _verifying.acquire(blocking=False):
        raise Overloaded("The audit is being verified. Try again later.", 10.0)
    try:
        anchors = read_anchors(service.deployment.audit_anchor_file)
        result = verify_database(service.connections.connection, anchors)
    finally:
        _verifying.release()
    _record(service, request, caller, "audit.verify", {"verified": result.verified})
    return VerificationAnswer(
        verified=result.verified,
        records=result.records,
        head=result.head.sequence,
        head_hash=result.head.hash.hex(),
        anchors=result.anchors,
        problem_count=result.problem_count,
        problems=[
            ProblemAnswer.model_validate(problem, from_attributes=True)
            for problem in result.problems
        ],
    )


@router.get(
    "/v1/audit/export",
    summary="Export the audit",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/x-ndjson": {}}, "description": "One JSON object a line."}
    },
)
def export(
    request: Request,
    caller: Annotated[Principal, requires("audit:read", cost=20)],
    service: ServiceDependency,
) -> StreamingResponse:
    """Return all records, with everything that another program needs to verify them."""
    _require_everything(caller)
    _record(service, request, caller, "audit.export", {})
    lines = export_lines(service.connections.connection)
    return StreamingResponse(_blocks(lines), media_type="application/x-ndjson")


def _require_everything(caller: Principal) -> None:
    if caller.scope.accounts is not None:
        raise Forbidden("The chain has the records of all accounts: this needs a super_admin.")


def _record(
    service: Service, request: Request, caller: Principal, action: str, details: dict[str, object]
) -> None:
    state = request.state
    record = AuditRecord(
        action, "allowed", caller.identity, "", state.request_id, state.address, details
    )
    service.audit.write(record)


def _blocks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines in blocks: each block costs a change of threads."""
    block = bytearray()
    for line in lines:
        block += line
        if len(block) >= 1 << 16:
            yield bytes(block)
            block.clear()
    yield bytes(block)
