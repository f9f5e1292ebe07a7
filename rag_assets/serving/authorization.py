"""The permission that a route declares, and its check. A route without a declaration fails a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from rag_assets.pipeline.permissions import Permission
from rag_assets.pipeline.principal import Principal, allowed
from rag_assets.serving.authentication import authenticate, count_stranger
from resources.errors import Forbidden, NotAuthenticated

#: `public`: strangers too. `self`: whoever is authenticated, on what is their own.
Access = Permission | Literal["public", "self"]


@dataclass(frozen=True)
class Authorization:
    """The dependency of a route: returns the principal, who has the permission; None for a stranger on a public route.

    `cost`: how many requests this one counts as. `reads_credentials`: False: everybody is a stranger to this route,
    also with credentials that are not accepted. Raises NotAuthenticated (401), Forbidden (403), LimitExceeded (429).
    """

    access: Access
    cost: int = 1
    reads_credentials: bool = True

    async def __call__(self, request: Request) -> Principal | None:
        if not self.reads_credentials:
            await count_stranger(request, self.cost)
            return None
        principal = await authenticate(request, self.cost)
        if self.access == "public":
            return principal
        if principal is None:
            raise NotAuthenticated("Send an API key or an access token: Authorization: Bearer …")
        if self.access != "self" and not allowed(principal, self.access):
            raise Forbidden(f"This needs the permission {self.access}.")
        return principal


def requires(access: Access, cost: int = 1, *, reads_credentials: bool = True) -> Any:
    """Return the dependency of a route: `caller: Annotated[Principal, requires("search:read")]`."""
    return Depends(Authorization(access, cost, reads_credentials))


def route_access(app: FastAPI) -> Iterator[tuple[str, str, Access]]:
    """Yield (path, method, access) of every route. Raises LookupError for one that declares none, or several."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if not isinstance(route, APIRoute):
            # The schema, which FastAPI itself adds.
            if context.path == app.openapi_url:
                continue
            raise LookupError(
                f"{context.path}: a route of another kind, which cannot declare access"
            )
        declared = list(_declarations(route.dependant))
        if len(declared) != 1:
            raise LookupError(
                f"{context.path}: expected one declaration of access, found {declared}"
            )
        for method in sorted(context.methods or ()):
            yield context.path_format or "", method, declared[0].access


def _declarations(dependant: Dependant) -> Iterator[Authorization]:
    if isinstance(dependant.call, Authorization):
        yield dependant.call
    for each in dependant.dependencies:
        yield from _declarations(each)
