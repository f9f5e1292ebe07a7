"""Routers of the service: bodies are JSON, and of a limited size."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException


class JsonRoute(APIRoute):
    """A route that refuses a body of another type than JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def checked(request: Request) -> Response:
            sent = request.headers.get("content-type", "")
            if not _is_json(sent):
                raise HTTPException(
                    415, f"Expected the content type application/json, found {sent[:80] or 'none'}."
                )
            return await handler(request)

        return checked


def new_router(body_limit: int | None = None) -> APIRouter:
    """Return a router for the routes of one module. `body_limit`: bytes of a body, below that of the application."""
    return APIRouter(route_class=JsonRoute, redirect_slashes=False, max_body_size=body_limit)


def _is_json(content_type: str) -> bool:
    if content_type == "application/json":
        return True
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )
