"""From the header of a request to its principal: an API key or an access token, and nothing else.

Every failure is one sentence: which part was wrong is not said.
"""

from __future__ import annotations

from fastapi import Request

from rag_assets.identity.api_key_format import looks_like_key
from rag_assets.pipeline.principal import Principal
from rag_assets.serving.client_address import limited_address
from rag_assets.serving.rate_limits import headers
from rag_assets.serving.service import Service, service_of
from resources.errors import LimitExceeded, NotAuthenticated

#: Characters of a key or a token, at most. Longer ones are not looked at.
LONGEST = 4096
#: What a failed authentication costs its address: guesses are rarer than requests.
FAILURE_COST = 5


async def authenticate(request: Request, cost: int) -> Principal | None:
    """Return the principal of a request, None without credentials, and count the request against its limits.

    Raises NotAuthenticated and LimitExceeded.
    """
    service, state = service_of(request), request.state
    settings = service.deployment.settings
    try:
        credential = _credential(request)
        if credential is None:
            await count_stranger(request, cost)
            return None
        principal = service.authenticator.recent(credential, state.address)
        if principal is None:
            principal = await _looked_up(service, credential, state.address)
    except NotAuthenticated:
        # First the limit: a guesser gets no more than its address may send, and fills no log.
        await count_stranger(request, FAILURE_COST)
        service.note(request, None, "auth.denied", {}, outcome="denied")
        raise
    state.principal = principal.identity
    limits = [(f"user:{principal.user_id}", settings.user_requests_per_minute)]
    if per_key := principal.requests_per_minute:
        # First: requests that a key may not make use up nothing of its user's.
        limits.insert(0, (principal.identity, per_key))
    await _count(request, service, limits, cost)
    return principal


async def _looked_up(service: Service, credential: str, address: str) -> Principal:
    if looks_like_key(credential):
        return await service.run(service.authenticator.by_key, credential, address)
    claims = service.tokens.recent(credential)
    claims = claims or await service.run(service.tokens.verify, credential)
    user = (claims.user_id, claims.version, claims.session_id)
    recent = service.authenticator.recent_user(*user)
    return recent or await service.run(service.authenticator.by_user, *user)


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


async def count_stranger(request: Request, cost: int) -> None:
    """Count the request against the limit of its address. Raises LimitExceeded."""
    service = service_of(request)
    per_minute = service.deployment.settings.stranger_requests_per_minute
    identity = limited_address(request.state.address)
    await _count(request, service, [(identity, per_minute)], min(cost, per_minute))


async def _count(
    request: Request, service: Service, limits: list[tuple[str, int]], cost: int
) -> None:
    """Take the cost from each limit. Raises LimitExceeded at the first that has too little left."""
    if not cost:
        return
    taken = []
    for identity, per_minute in limits:
        allowance = await service.limits.take(identity, per_minute, cost)
        taken.append(allowance)
        request.state.limit_headers = [
            (name.lower().encode(), value.encode()) for name, value in headers(*taken).items()
        ]
        if not allowance.allowed:
            # Once a minute: who sends too much must not fill the audit.
            if service.refusals.is_new(identity):
                details = {"identity": identity}
                service.note(request, None, "limit.exceeded", details, outcome="denied")
            raise LimitExceeded(
                f"Expected at most {allowance.limit} requests a minute. Try again in "
                f"{allowance.reset_seconds:.0f} s.",
                allowance.reset_seconds,
            )
