"""Every route, for strangers and every role, on what is their own and what is another account's.

What is expected comes from the routes' own declarations. A route without a sample here fails the test.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from rag_assets.deployment import Deployment, installed_version
from rag_assets.identity import api_keys, users
from rag_assets.identity.api_keys import KeySpec
from rag_assets.identity.changes import COMMAND_LINE
from rag_assets.identity.grants import Grants
from rag_assets.identity.users import UserSpec
from rag_assets.pipeline.permissions import ROLES, role_permissions
from rag_assets.serving.app import create_app
from rag_assets.serving.authorization import Access, route_access
from rag_assets.serving.service import Service
from resources.postgres.queries import scalar
from tests.support.service import LiveService
from tests.support.tenants import CANARY, OWNER, Tenants
from tests.support.world import World

#: Callers: strangers, the roles, and an admin who administers users, but only of its own account.
STRANGER, LOCAL = "stranger", "admin of users"
CALLERS = (STRANGER, *ROLES, LOCAL)


class Request(NamedTuple):
    """What is sent. `status`: of the answer to those who may."""

    path: str
    body: Any = None
    status: int = 200


class Maker:
    """Makes what a request is about: users and keys of the account `own` or `foreign`."""

    def __init__(self, world: World, people: Tenants) -> None:
        self.connection, self.people = world.connection, people
        self.secret = Deployment(world.settings).secret

    def user(self, account: str, role: str = "viewer", permissions: tuple[str, ...] = ()) -> str:
        name = f"{account} {uuid.uuid4().hex}"
        spec = UserSpec(f"{uuid.uuid4().hex}@{account}.example", name, role, permissions)
        return str(users.add(self.connection, OWNER, spec, Grants(accounts=(account,))).id)

    def key(self, user: str) -> api_keys.IssuedKey:
        permissions = ("search:read",)
        spec = KeySpec("temporary", permissions, rate_limit_per_minute=10_000)
        return api_keys.add(self.connection, OWNER, self.secret, uuid.UUID(user), spec)

    def document(self, account: str) -> str:
        return self.people.own if account == "own" else self.people.foreign

    def caller(self, role: str, service: Service, *, logs_in: bool) -> tuple[str, str]:
        """Return a new user of the account `own` with an access token, or a key that has all of its permissions."""
        added = ("user:admin",) if role == LOCAL else ()
        of_role = "admin" if role == LOCAL else role
        user = self.user("own", of_role, added)
        if logs_in:
            with service.connections.connection() as connection:
                version = scalar(connection, "SELECT version FROM users WHERE id = %s", [user])
                session = service.sessions.start(connection, uuid.UUID(user), version, COMMAND_LINE)
            return user, service.tokens.issue(uuid.UUID(user), version, session.session_id)
        permissions = sorted({*role_permissions(of_role), *added})  # pyright: ignore[reportArgumentType]
        spec = KeySpec("a caller", permissions, rate_limit_per_minute=100_000)
        return user, api_keys.add(self.connection, OWNER, self.secret, uuid.UUID(user), spec).text


#: Returns a request about something of the account, for a caller with this id.
Sample = Callable[[Maker, str, str], Request]


def about_user(path: str, body: Any = None, status: int = 200) -> Sample:
    return lambda make, account, _: Request(
        path.format(user_id=make.user(account), account=account), body and body(account), status
    )


def about_key(path: str, body: Any = None, status: int = 200) -> Sample:
    """About a key of the caller, or of a user of the foreign account."""
    return lambda make, account, caller: Request(
        path.format(key_id=make.key(caller if account == "own" else make.user("foreign")).row.id),
        body,
        status,
    )


def plain(path: str, body: Any = None, status: int = 200) -> Sample:
    return lambda *_: Request(path, body, status)


PASSWORD = "a sentence that nobody guesses"
SAMPLES: Mapping[tuple[str, str], Sample] = {
    ("GET", "/livez"): plain("/livez"),
    ("GET", "/readyz"): plain("/readyz"),
    ("GET", "/version"): plain("/version"),
    ("GET", "/.well-known/jwks.json"): plain("/.well-known/jwks.json"),
    # Strangers may try; what they send is not accepted.
    ("POST", "/auth/init"): plain(
        "/auth/init",
        {"token": "x", "email": "a@b.example", "username": "a", "password": PASSWORD},
        401,
    ),
    ("POST", "/auth/login"): lambda *_: Request(
        "/auth/login", {"name": uuid.uuid4().hex, "password": PASSWORD}, 401
    ),
    ("POST", "/auth/refresh"): plain("/auth/refresh", {"refresh_token": "x"}, 401),
    ("POST", "/auth/logout"): plain("/auth/logout", {"refresh_token": "x"}, 204),
    ("POST", "/auth/password"): plain(
        "/auth/password", {"token": "x", "new_password": PASSWORD}, 401
    ),
    # No provider is configured here.
    ("POST", "/auth/oidc/login"): plain("/auth/oidc/login", {}, 404),
    ("POST", "/auth/oidc/callback"): plain(
        "/auth/oidc/callback", {"flow": "x", "state": "x", "code": "x"}, 404
    ),
    ("GET", "/auth/me"): plain("/auth/me"),
    ("POST", "/v1/search"): lambda make, account, _: Request(
        # Beside one of the caller's own.
        "/v1/search",
        {"query": "When does the observatory open?", "filters": {"source": ["own", account]}},
    ),
    ("GET", "/v1/documents/{document_id}"): lambda make, account, _: Request(
        f"/v1/documents/{make.document(account)}"
    ),
    ("GET", "/v1/users"): plain("/v1/users"),
    ("POST", "/v1/users"): lambda make, account, _: Request(
        "/v1/users",
        {
            "email": f"{uuid.uuid4().hex}@{account}.example",
            "username": uuid.uuid4().hex,
            "accounts": ["own", account],
        },
        201,
    ),
    ("GET", "/v1/users/{user_id}"): about_user("/v1/users/{user_id}"),
    ("DELETE", "/v1/users/{user_id}"): about_user("/v1/users/{user_id}", status=204),
    ("PUT", "/v1/users/{user_id}/role"): about_user(
        "/v1/users/{user_id}/role", lambda _: {"role": "editor"}
    ),
    ("POST", "/v1/users/{user_id}/lock"): about_user("/v1/users/{user_id}/lock"),
    ("POST", "/v1/users/{user_id}/unlock"): about_user("/v1/users/{user_id}/unlock"),
    ("PUT", "/v1/users/{user_id}/password"): about_user(
        "/v1/users/{user_id}/password", lambda _: {"password": PASSWORD}
    ),
    ("POST", "/v1/users/{user_id}/grants"): about_user(
        "/v1/users/{user_id}/grants", lambda account: {"sources": [account]}
    ),
    ("DELETE", "/v1/users/{user_id}/grants"): about_user(
        "/v1/users/{user_id}/grants?account={account}"
    ),
    ("GET", "/v1/api-keys"): plain("/v1/api-keys"),
    ("POST", "/v1/api-keys"): lambda make, account, caller: Request(
        "/v1/api-keys",
        {"name": "new", "user_id": caller if account == "own" else make.user("foreign")},
        201,
    ),
    ("GET", "/v1/api-keys/{key_id}"): about_key("/v1/api-keys/{key_id}"),
    ("POST", "/v1/api-keys/{key_id}/rotate"): about_key("/v1/api-keys/{key_id}/rotate", {}, 201),
    ("DELETE", "/v1/api-keys/{key_id}"): about_key("/v1/api-keys/{key_id}", status=204),
    ("GET", "/v1/audit"): plain("/v1/audit"),
    ("GET", "/v1/audit/verify"): plain("/v1/audit/verify"),
    ("GET", "/v1/audit/export"): plain("/v1/audit/export"),
}
#: Routes that are about no account. What they list is limited to the caller's own (see the canary).
WITHOUT_ACCOUNT = {path for _, path in SAMPLES if path.startswith(("/auth", "/.well"))} | {
    "/livez",
    "/readyz",
    "/version",
    "/v1/users",
    "/v1/audit",
    "/v1/api-keys",
}
#: The chain has the records of all accounts.
OF_ALL_ACCOUNTS = {"/v1/audit/verify", "/v1/audit/export"}


def routes() -> list[tuple[str, str, Access]]:
    app = create_app(lambda: pytest.fail("not opened"), installed_version(), 1 << 20)
    return [(method, path, access) for path, method, access in route_access(app)]


def test_every_route_has_a_sample() -> None:
    assert {(method, path) for method, path, _ in routes()} == set(SAMPLES)


def expected(access: Access, path: str, caller: str, account: str, allowed_status: int) -> int:
    """Return the status that the declaration means."""
    if access == "public":
        return allowed_status
    if caller == STRANGER:
        return 401
    role = "admin" if caller == LOCAL else caller
    permissions = {*role_permissions(role), *(("user:admin",) if caller == LOCAL else ())}  # pyright: ignore[reportArgumentType]
    if access != "self" and access not in permissions:
        return 403
    if caller == "super_admin":
        return allowed_status
    if path in OF_ALL_ACCOUNTS:
        return 403
    return 404 if account == "foreign" else allowed_status


@pytest.mark.parametrize(("method", "path", "access"), routes())
def test_each_caller_gets_what_the_route_declares(
    live: LiveService,
    module_world: World,
    people: Tenants,
    method: str,
    path: str,
    access: Access,
) -> None:
    make = Maker(module_world, people)
    wrong: list[str] = []
    accounts = ("own",) if path in WITHOUT_ACCOUNT and method == "GET" else ("own", "foreign")
    for caller in CALLERS:
        user, credential = make.user("own"), None
        if caller != STRANGER:
            # A key handles no other key.
            logs_in = path.startswith("/v1/api-keys")
            user, credential = make.caller(caller, live.service, logs_in=logs_in)
        for account in accounts:
            # Logins of one address wait for one another.
            module_world.connection.execute("DELETE FROM login_failures")
            sample = SAMPLES[method, path](make, account, user)
            # What no sample of this route can aim at another account.
            if account == "foreign" and sample == SAMPLES[method, path](make, "own", user):
                continue
            if path.startswith("/auth/login"):
                continue
            answer = live.call(method, sample.path, sample.body, credential=credential)
            status = expected(access, path, caller, account, sample.status)
            cell = f"{caller}, {account}: expected {status}, found {answer.status_code}"
            if answer.status_code != status:
                wrong.append(f"{cell} {answer.text[:200]}")
            may_see = caller == "super_admin"
            if not may_see and CANARY in answer.text:
                wrong.append(f"{caller}, {account}: the answer has the foreign document")
            if not may_see and "@foreign.example" in answer.text:
                wrong.append(f"{caller}, {account}: the answer has a foreign user")
    assert wrong == []
