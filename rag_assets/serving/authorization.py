"""The permission that a route declares, and its check. A route without a declaration fails a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Depends, Request

from rag_assets.pipeline.permissions import Permission
from rag_assets.pipeline.principal import Principal, allowed
from resources.errors import Forbidden, NotAuthenticated

#: `public`: strangers too. `self`: whoever is authenticated, on what is their own.
Access = Permission | Literal["public", "self"]


@dataclass(frozen=True)
class Authorization:
    """The dependency of a route: returns the principal, who has the permission.

    Raises NotAuthenticated (401) and Forbidden (403). `public` routes need `stranger_or_principal`.
    """

    access: Access

    async def __call__(self, request: Request) -> Principal | None:
        principal = await _principal(request, required=self.access != "public")
        if principal is None or self.access in ("public", "self"):
            return principal
        if not allowed(principal, self.access):  # pyright: ignore[reportArgumentType]
            raise Forbidden(f"This needs the permission {self.access}.")
        return principal


def requires(access: Access) -> Any:
    """Return the dependency of a route: `caller: Annotated[Principal, requires("search:read")]`."""
    return Depends(Authorization(access))


async def _principal(request: Request, *, required: bool) -> Principal | None:
    if "authorization" not in request.headers:
        if required:
            raise NotAuthenticated("Send an API key or an access token: Authorization: Bearer …")
        return None
    raise NotAuthenticated("This key or token is not accepted.")
