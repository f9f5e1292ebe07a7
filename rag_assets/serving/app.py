"""The application: its routes, its errors, its schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from rag_assets.serving.authorization import route_access
from rag_assets.serving.problems import CODES, MEDIA_TYPE, Problem, add_handlers
from rag_assets.serving.routes import (
    api_keys,
    audit,
    auth,
    documents,
    health,
    provider_login,
    search,
    users,
)
from rag_assets.serving.service import Service

_DESCRIPTION = "Search over documents that PostgreSQL and Milvus keep equal. All errors are problem+json (RFC 9457)."
#: Answers that every route may give, and those of routes with a body.
_ALWAYS, _WITH_BODY = (400, 429, 500, 503), (413, 415, 422)


def create_app(
    open_service: Callable[[], Service],
    version: str,
    body_limit: int,
) -> FastAPI:
    """Return the application, to be wrapped in `Requests`. It opens the service at its start, closes it at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = open_service()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="rag-assets",
        version=version,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=body_limit,
    )
    # The most frequent first: the routes are tried in this order.
    for module in (search, documents, health, auth, provider_login, users, api_keys, audit):
        app.include_router(module.router)
    add_handlers(app)
    app.openapi = lambda: _openapi(app)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the schema, with the permission of each route and every error that it may answer with."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = schema.setdefault("components", {})
    definitions = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        definitions.pop(unused, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions.update(problem.pop("$defs"))
    definitions["Problem"] = problem
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for path, method, access in route_access(app):
        operation = schema["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        operation["x-access"] = access
        statuses = {*_ALWAYS, 401, 422}
        if access != "public":
            operation["security"] = [{"bearer": []}]
            statuses.add(403)
        if path.startswith("/auth/"):
            statuses |= {403, 404}
        if "{" in path or "requestBody" in operation:
            statuses.add(404)
        if "requestBody" in operation:
            statuses.update(_WITH_BODY)
        if method != "GET":
            statuses.add(409)
        for status in sorted(statuses):
            answer = {
                "description": CODES[status][0].replace("_", " "),
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
            declared = operation["responses"].get(str(status))
            if declared is None or status == 422:
                operation["responses"][str(status)] = answer
            else:
                declared.setdefault("content", {}).update(answer["content"])
    app.openapi_schema = schema
    return schema
