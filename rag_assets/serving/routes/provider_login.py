"""`/auth/oidc/…`: logins at an OpenID Connect provider. Without one in the settings these routes are unknown (404)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, Field

from rag_assets.identity.provider_logins import ProviderLogins
from rag_assets.serving.request_origin import origin_of
from rag_assets.serving.routes.auth import BODY_LIMIT, Guesser, TokensAnswer, answer_of
from rag_assets.serving.routing import new_router
from rag_assets.serving.schemas import RequestBody
from rag_assets.serving.service import Service, ServiceDependency
from resources.errors import NotFound

router = new_router(BODY_LIMIT)


class ProviderLoginAnswer(BaseModel):
    """Send the user to `authorization_url`, and keep `flow`, which completes this login and no other."""

    authorization_url: str
    flow: str


class CallbackRequest(RequestBody):
    """`flow`: of the login; the others: as the provider added them to the redirect address."""

    flow: Annotated[str, Field(max_length=1000)]
    state: Annotated[str, Field(max_length=200)]
    code: Annotated[str, Field(min_length=1, max_length=2000)]
    iss: Annotated[str, Field(max_length=500)] = ""


@router.post("/auth/oidc/login", summary="Begin a login at the provider")
def begin(caller: Guesser, service: ServiceDependency) -> ProviderLoginAnswer:
    """Return the address at which the user logs in: code flow with PKCE, state and nonce."""
    login = _logins(service).begin()
    return ProviderLoginAnswer(authorization_url=login.authorization_url, flow=login.flow)


@router.post("/auth/oidc/callback", summary="Complete a login at the provider")
def finish(
    request: Request, body: CallbackRequest, caller: Guesser, service: ServiceDependency
) -> TokensAnswer:
    """Start a session of the user whose verified email address, or earlier link, the provider names.

    It makes no user: an administrator adds users.
    """
    agent = request.headers.get("user-agent", "")
    tokens = _logins(service).finish(
        body.flow, body.state, body.code, body.iss, origin_of(request), agent
    )
    return answer_of(tokens)


def _logins(service: Service) -> ProviderLogins:
    if service.provider_logins is None:
        raise NotFound("There are no logins at a provider here.")
    return service.provider_logins
