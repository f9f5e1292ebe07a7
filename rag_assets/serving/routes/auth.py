"""`/auth/…`: the first super_admin, logins, sessions, passwords, and the keys that verify access tokens.

Tokens travel in bodies and in the header Authorization, never in cookies: no other site can send them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Self

from fastapi import Request, Response, status
from pydantic import BaseModel, Field, model_validator

from rag_assets.identity.sessions import NewTokens
from rag_assets.pipeline.principal import Principal
from rag_assets.serving.authentication import FAILURE_COST, count_stranger
from rag_assets.serving.authorization import requires
from rag_assets.serving.request_origin import origin_of
from rag_assets.serving.routing import new_router
from rag_assets.serving.schemas import Name, RequestBody, Text
from rag_assets.serving.service import Service, ServiceDependency
from resources.errors import NotAuthenticated

#: Bytes of a body. Strangers send them.
BODY_LIMIT = 4096
router = new_router(BODY_LIMIT)

#: Others may keep the keys for this time; a new key signs nothing that is older.
_KEYS_CACHED = "public, max-age=300"
#: An attempt with a password costs as much as some searches.
_PASSWORD_COST = 5

#: No credentials are looked at: an access token that has expired must not stop its own refresh.
Stranger = Annotated[None, requires("public", reads_credentials=False)]
#: Strangers at the same address must not stop the refresh of a session: only tokens that are not accepted count there.
Uncounted = Annotated[None, requires("public", 0, reads_credentials=False)]
Guesser = Annotated[None, requires("public", _PASSWORD_COST, reads_credentials=False)]

Password = Annotated[str, Field(min_length=1, max_length=1024)]
Token = Annotated[str, Field(min_length=1, max_length=200)]


class InitRequest(RequestBody):
    """`token`: printed by `rag users init`."""

    token: Token
    email: Name
    username: Annotated[Text, Field(min_length=1, max_length=100)]
    password: Password


class InitAnswer(BaseModel):
    user_id: uuid.UUID


class LoginRequest(RequestBody):
    """`name`: an email address or a username."""

    name: Name
    password: Password


class RefreshRequest(RequestBody):
    refresh_token: Token


class LogoutRequest(RequestBody):
    """`everywhere`: end all sessions of the user."""

    refresh_token: Token
    everywhere: bool = False


class PasswordRequest(RequestBody):
    """Either `old_password`, with an access token, or the one-time `token` that an administrator gave."""

    new_password: Password
    old_password: Password | None = None
    token: Token | None = None

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if (self.old_password is None) == (self.token is None):
            raise ValueError("expected either old_password or token")
        return self


class TokensAnswer(BaseModel):
    """`expires_in`: seconds in which the access token is accepted. The refresh token is used once."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"


class MeAnswer(BaseModel):
    """Who the caller is, and what it may do and see. `accounts`, `chat_bots`, `sources`: null: everything."""

    user_id: uuid.UUID | None
    username: str
    role: str
    permissions: Sequence[str]
    accounts: Sequence[str] | None
    chat_bots: Sequence[str] | None
    sources: Sequence[str] | None
    key_id: str | None
    session_id: uuid.UUID | None


class JsonWebKey(BaseModel):
    """A public key (RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str
    alg: str
    use: str


class JsonWebKeys(BaseModel):
    keys: Sequence[JsonWebKey]


@router.post(
    "/auth/init", status_code=status.HTTP_201_CREATED, summary="Make the first super_admin"
)
def init(
    request: Request, body: InitRequest, caller: Guesser, service: ServiceDependency
) -> InitAnswer:
    """Redeem the token that `rag users init` printed. It works once, within an hour, while there is no super_admin."""
    with _denials(request, service, "auth.init"):
        user_id = service.password_changes.init(
            body.token, body.email, body.username, body.password, origin_of(request)
        )
    return InitAnswer(user_id=user_id)


@router.post("/auth/login", summary="Log in with a password")
async def login(
    request: Request, body: LoginRequest, caller: Guesser, service: ServiceDependency
) -> TokensAnswer:
    """Start a session. Wrong passwords delay the next attempt, by account and by network (429, Retry-After)."""
    agent = request.headers.get("user-agent", "")
    login = service.logins.login
    return answer_of(
        await service.log_in(login, body.name, body.password, origin_of(request), agent)
    )


@router.post("/auth/refresh", summary="Exchange a refresh token")
async def refresh(
    request: Request, body: RefreshRequest, caller: Uncounted, service: ServiceDependency
) -> TokensAnswer:
    """Return new tokens. A refresh token that is used again later ends the session: it was stolen."""
    refreshed = service.sessions.refresh
    try:
        return answer_of(await service.run(refreshed, body.refresh_token, origin_of(request)))
    except NotAuthenticated:
        # First the limit: a guesser fills no audit.
        await count_stranger(request, FAILURE_COST)
        service.note(request, None, "auth.refresh", {}, outcome="denied")
        raise


@router.post("/auth/logout", status_code=status.HTTP_204_NO_CONTENT, summary="End a session")
def logout(
    request: Request, body: LogoutRequest, caller: Stranger, service: ServiceDependency
) -> None:
    """End the session of a refresh token. An unknown token is no error: it cannot be used either."""
    service.sessions.end(body.refresh_token, origin_of(request), everywhere=body.everywhere)


@router.post("/auth/password", status_code=status.HTTP_204_NO_CONTENT, summary="Set one's password")
def password(
    request: Request,
    body: PasswordRequest,
    caller: Annotated[Principal | None, requires("public", _PASSWORD_COST)],
    service: ServiceDependency,
) -> None:
    """Set a new password, which ends all sessions of the user."""
    changes, origin = service.password_changes, origin_of(request)
    if body.token is not None:
        with _denials(request, service, "auth.password"):
            changes.redeem(body.token, body.new_password, origin)
    elif caller is None or body.old_password is None:
        raise NotAuthenticated("Send an access token: Authorization: Bearer …")
    else:
        changes.change(caller, body.old_password, body.new_password, origin)


@router.get("/auth/me", summary="Who am I")
async def me(caller: Annotated[Principal, requires("self")]) -> MeAnswer:
    """Return the caller's role, permissions and grants as they are now."""
    scope = caller.scope
    return MeAnswer(
        user_id=caller.user_id,
        username=caller.username,
        role=caller.role,
        permissions=sorted(caller.permissions),
        accounts=_names(scope.accounts),
        chat_bots=_names(scope.chat_bots),
        sources=_names(scope.sources),
        key_id=caller.key_id or None,
        session_id=caller.session_id,
    )


@router.get("/.well-known/jwks.json", summary="The keys that verify access tokens")
def keys(response: Response, caller: Stranger, service: ServiceDependency) -> JsonWebKeys:
    """Return the public keys, with which other services can verify access tokens (RFC 7517)."""
    response.headers["Cache-Control"] = _KEYS_CACHED
    return JsonWebKeys(keys=[JsonWebKey(**key) for key in service.tokens.public_keys()])


@contextmanager
def _denials(request: Request, service: Service, action: str) -> Iterator[None]:
    """Record a one-time token that is not accepted."""
    try:
        yield
    except NotAuthenticated:
        service.note(request, None, action, {}, outcome="denied")
        raise


def answer_of(tokens: NewTokens) -> TokensAnswer:
    return TokensAnswer(**asdict(tokens))


def _names(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)
