"""The one middleware, pure ASGI: request ids, headers of every answer, and the log of requests.

It authorises nothing: a path that it sees may not be the one that a route gets.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_assets.serving.client_address import Network, client_address
from rag_assets.serving.problems import answer_to, problem

#: A request id that a caller sends is kept if it is harmless in logs.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
#: Headers that must not come twice: two parts of a system could take different ones.
_ONCE = (b"host", b"authorization", b"content-length", b"content-type")

_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")

log = structlog.get_logger("rag_assets.requests")


class Requests:
    """Wraps the application, outside of its own middleware. `trusted_proxies`: those that tell the client's address."""

    def __init__(self, app: ASGIApp, trusted_proxies: Sequence[Network] = ()) -> None:
        self.app, self.trusted_proxies = app, trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = scope["headers"]
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        request_id = state["request_id"] = _request_id(headers)
        state["address"] = client_address(scope, self.trusted_proxies)
        status = 500
        began = is_replaced = False

        async def answering(message: Message) -> None:
            nonlocal is_replaced
            if is_replaced:
                return
            if _is_text_413(message):
                # Starlette's own answer to a body that is too long.
                is_replaced = True
                detail = "Expected a smaller body."
                await problem(request_id, 413, detail)(scope, receive, sending)
                return
            await sending(message)

        async def sending(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                began, status = True, message["status"]
                present = {name for name, _ in message["headers"]}
                added = [*_HEADERS, (b"x-request-id", request_id.encode())]
                if scope["scheme"] == "https":
                    added.append(_HSTS)
                added += state.get("limit_headers", ())
                message["headers"] = [
                    *message["headers"],
                    *(pair for pair in added if pair[0] not in present),
                ]
            await send(message)

        try:
            if wrong := _wrong(headers):
                response = problem(request_id, 400, wrong, headers={"Connection": "close"})
                await response(scope, receive, sending)
            else:
                await self.app(scope, receive, answering)
        except Exception as error:
            # Starlette raises an error again after its answer.
            if not began:
                await answer_to(request_id, error)(scope, receive, sending)
            elif "internal_error" not in state:
                raise
        finally:
            _log(scope, status, time.perf_counter() - started)


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    sent = next((value for name, value in headers if name == b"x-request-id"), b"")
    return sent.decode() if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)


def _wrong(headers: list[tuple[bytes, bytes]]) -> str:
    """Return what is wrong with the headers; "" if nothing is."""
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            return f"Expected one header {name.decode()}, found {names.count(name)}."
    host = next((value for name, value in headers if name == b"host"), b"")
    if host and not _HOST.fullmatch(host):
        return "The header host is not the name or address of a server."
    return ""


def _is_text_413(message: Message) -> bool:
    if message["type"] != "http.response.start" or message["status"] != 413:
        return False
    return dict(message["headers"]).get(b"content-type", b"").startswith(b"text/plain")


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Log the template of the route, never the path or the query: they may contain names and secrets."""
    state = scope["state"]
    log.info(
        "request",
        method=scope["method"],
        route=getattr(scope.get("route"), "path", "none"),
        status=status,
        milliseconds=round(seconds * 1000, 1),
        request_id=state["request_id"],
        principal=state.get("principal", "anonymous"),
    )
