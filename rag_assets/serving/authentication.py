"""From the header of a request to its principal: an API key or an access token, and nothing else.

Every failure is one sentence: which part was wrong is not said.
"""

from __future__ import annotations

from fastapi import Request

from rag_assets.identity.api_key_format import looks_like_key
from rag_assets.pipeline.principal import Principal
from rag_assets.serving.rate_limits import Allowance, headers
from rag_assets.serving.service import Service, service_of
from resources.errors import LimitExceeded, NotAuthenticated

#: Characters of a key or a token, at most. Longer ones are not looked at.
LONGEST = 4096
#: What a failed authentication costs its address: guesses are rarer than requests.
FAILURE_COST = 10


async def authenticate(request: Request, cost: int) -> Principal | None:
    """Return the principal of a request, None without credentials, and count the request against its limit.

    Raises NotAuthenticated and LimitExceeded.
    """
    service = service_of(request)
    state = request.state
    address = state.address
    credential = _credential(request)
    if credential is None:
        await _count(request, service, f"address:{address}", cost)
        return None
    principal = service.authenticator.recent(credential, address)
    if principal is None:
        principal = await _looked_up(request, service, credential, address)
    state.principal = principal.identity
    per_minute = principal.requests_per_minute or service.deployment.settings.requests_per_minute
    await _count(request, service, principal.identity, cost, per_minute)
    return principal


async def _looked_up(
    request: Request, service: Service, credential: str, address: str
) -> Principal:
    try:
        if looks_like_key(credential):
            return await service.run(service.authenticator.by_key, credential, address)
        claims = service.tokens.recent(credential)
        claims = claims or await service.run(service.tokens.verify, credential)
        user = (claims.user_id, claims.version, claims.session_id)
        recent = service.authenticator.recent_user(*user)
        return recent or await service.run(service.authenticator.by_user, *user)
    except NotAuthenticated:
        # First the limit: a guesser gets no more than its address may send, and fills no log.
        await _count(request, service, f"address:{address}", FAILURE_COST)
        service.note(request, None, "auth.denied", {})
        raise NotAuthenticated("This key or token is not accepted.") from None


def _credential(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, credential = header.partition(" ")
    credential = credential.strip()
    if (
        scheme.lower() != "bearer"
        or not credential
        or len(credential) > LONGEST
        or not (credential.isascii() and credential.isprintable())
    ):
        raise NotAuthenticated("This key or token is not accepted.")
    return credential


async def _count(
    request: Request, service: Service, identity: str, cost: int, per_minute: int | None = None
) -> None:
    per_minute = per_minute or service.deployment.settings.stranger_requests_per_minute
    allowance = await service.limits.take(identity, per_minute, cost)
    request.state.limit_headers = _encoded(allowance)
    if not allowance.allowed:
        raise LimitExceeded(
            f"Expected at most {allowance.limit} requests a minute.", allowance.reset_seconds
        )


def _encoded(allowance: Allowance) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers(allowance).items()]
