"""Errors as answers: one form for all, `application/problem+json` (RFC 9457), which lists everything wrong at once."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rag_assets.serving.service import service_of
from rag_assets.settings.messages import sentence
from resources.driver_errors import driver_error
from resources.errors import (
    ConfigError,
    Conflict,
    EmbedderUnavailable,
    Forbidden,
    LimitExceeded,
    NotAuthenticated,
    NotFound,
    OtherModel,
    Overloaded,
    RagError,
    StoreUnavailable,
    WrongSecret,
)
from resources.library_errors import as_rag_error

log = logging.getLogger("rag_assets.serving")

MEDIA_TYPE = "application/problem+json"

#: Status -> the code of its errors, and whether the same request may be sent again later.
CODES: Mapping[int, tuple[str, bool]] = {
    400: ("malformed", False),
    401: ("not_authenticated", False),
    403: ("forbidden", False),
    404: ("not_found", False),
    405: ("method_not_allowed", False),
    409: ("conflict", False),
    413: ("too_large", False),
    415: ("unsupported_media_type", False),
    422: ("invalid", False),
    429: ("limit_exceeded", True),
    500: ("internal_error", False),
    503: ("unavailable", True),
}

#: Error class -> status. A subclass has its parent's status unless it is listed before it.
STATUSES: Mapping[type[Exception], int] = {
    NotAuthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    LimitExceeded: 429,
    Overloaded: 503,
    StoreUnavailable: 503,
    EmbedderUnavailable: 503,
    OtherModel: 503,
    WrongSecret: 503,
    ConfigError: 422,
}


class ProblemItem(BaseModel):
    """One thing that is wrong. `pointer`: where in the body (RFC 6901), or the parameter; "" for the whole request."""

    message: str
    pointer: str = ""


class Problem(BaseModel):
    """An error (RFC 9457). `code` names its kind for programs. `retryable`: the same request may succeed later."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ProblemItem]
    retryable: bool
    request_id: str


def problem(
    request_id: str,
    status: int,
    detail: str,
    errors: Sequence[ProblemItem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer. `detail` contains no secret and no text of a document."""
    code, retryable = CODES.get(status, ("error", False))
    body = Problem(
        type=f"urn:rag-assets:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=f"urn:rag-assets:request:{request_id}",
        code=code,
        errors=list(errors) or [ProblemItem(message=detail)],
        retryable=retryable,
        request_id=request_id,
    )
    added = dict(headers or {})
    if status == 401:
        added["WWW-Authenticate"] = 'Bearer realm="rag-assets"'
    return Response(body.model_dump_json(exclude_none=True), status, added, media_type=MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Let the application answer every error in this form."""
    app.add_exception_handler(RequestValidationError, _invalid)  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(HTTPException, _http)  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(RagError, _known)  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(psycopg.Error, _database)  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(Exception, _unexpected)


def request_id_of(request: Request) -> str:
    return request.scope.get("state", {}).get("request_id", "")


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    problems = error.errors()
    if any(each["type"] == "json_invalid" for each in problems):
        return problem(request_id_of(request), 400, "The body is not valid JSON.")
    items = [
        ProblemItem(message=_sentence(each), pointer=_pointer(each["loc"])) for each in problems
    ]
    detail = "; ".join(f"{i.pointer or 'body'}: {i.message}" for i in items[:5])
    return problem(request_id_of(request), 422, detail, items)


def _sentence(found: Mapping[str, Any]) -> str:
    if found["type"] == "missing":
        return "expected a value, found none"
    if found["type"] == "extra_forbidden":
        return "unknown field"
    # The input is left out: it may be a password.
    return sentence({**found, "input": None})  # pyright: ignore[reportArgumentType]


def _pointer(location: Sequence[str | int]) -> str:
    """Return the JSON pointer into the body, or the name of a parameter."""
    place, *parts = location
    if place != "body":
        return str(parts[0]) if parts else str(place)
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in parts)


async def _http(request: Request, error: HTTPException) -> Response:
    detail = error.detail or HTTPStatus(error.status_code).phrase
    return problem(request_id_of(request), error.status_code, str(detail), headers=error.headers)


async def _known(request: Request, error: RagError) -> Response:
    if isinstance(error, Forbidden):
        _note_denial(request)
    return answer_to(request_id_of(request), error)


def _note_denial(request: Request) -> None:
    """Let the audit name who tried what, beyond their rights."""
    route = getattr(request.scope.get("route"), "path", "none")
    details = {"method": request.method, "route": route, **request.path_params}
    service_of(request).note(request, None, "auth.denied", details, outcome="denied")


async def _unexpected(request: Request, error: Exception) -> Response:
    request.state.internal_error = True
    return answer_to(request_id_of(request), error)


async def _database(request: Request, error: psycopg.Error) -> Response:
    if isinstance(error, psycopg.DataError):
        # Such as a NUL in a text, which PostgreSQL cannot hold.
        return problem(request_id_of(request), 422, "A value cannot be stored or looked for.")
    if isinstance(error, (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)):
        return problem(
            request_id_of(request), 503, "PostgreSQL did not answer in time.", headers=_retry(1)
        )
    if driver_error(error) is None:
        raise error
    return answer_to(request_id_of(request), error)


def answer_to(request_id: str, error: Exception) -> Response:
    """Return the answer to an error: what it says, if it is one of ours, else only that there is one."""
    known = error if isinstance(error, RagError) else as_rag_error(error)
    status = next((s for kind, s in STATUSES.items() if isinstance(known, kind)), 500)
    if known is None or status == 500:
        log.error("internal error", exc_info=error)
        return problem(request_id, 500, "An unexpected error. The log of the service has it.")
    if isinstance(known, tuple(_AWAY)):
        # Its message may name the address of a store.
        log.warning("a store or a model is away: %s", known)
        away = next(text for kind, text in _AWAY.items() if isinstance(known, kind))
        return problem(request_id, 503, away, headers=_retry(1))
    if isinstance(known, ConfigError) and (known is not error or known.__cause__ is not None):
        # Of a store or a file, not of the request: its message names hosts, roles and settings.
        log.error("the service is not configured as it must be: %s", known)
        detail = "The service cannot use one of its stores. Its log has the reason."
        return problem(request_id, 503, detail, headers=_retry(1))
    wait = getattr(known, "retry_after", None)
    headers = _retry(wait) if wait is not None else {}
    lines = [line.strip() for line in str(known).splitlines() if line.strip()]
    # A first line that ends with a colon is the heading of a list.
    heading, found = (lines[:1], lines[1:]) if lines and lines[0].endswith(":") else ([], lines)
    items = [_item(line) for line in found]
    detail = " ".join([*heading, "; ".join(found[:5])]) or HTTPStatus(status).phrase
    return problem(request_id, status, detail, items, headers)


_AWAY: Mapping[type[Exception], str] = {
    StoreUnavailable: "PostgreSQL or Milvus does not answer.",
    EmbedderUnavailable: "The embedding server does not answer.",
    OtherModel: "The index was made with another model than the one that embeds queries.",
    WrongSecret: "The service does not have the secret with which keys and tokens were made.",
}


def _item(line: str) -> ProblemItem:
    """Return a line of an error. Ours begin with the field that they are about."""
    name, colon, message = line.partition(": ")
    if colon and re.fullmatch(r"[a-z_.\[\]0-9]{1,40}", name):
        return ProblemItem(message=message, pointer="/" + name.replace(".", "/"))
    return ProblemItem(message=line)


def _retry(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))}
