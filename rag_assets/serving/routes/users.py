"""`/v1/users`: users, for who administers them. Users beyond the caller's reach are unknown (404)."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field, SecretStr

from rag_assets.identity import grants, users
from rag_assets.identity.grants import Grants
from rag_assets.identity.password_rules import MAX_BYTES
from rag_assets.identity.reach import reachable_user
from rag_assets.pipeline.permissions import Permission, Role
from rag_assets.pipeline.principal import Principal
from rag_assets.serving.authorization import requires
from rag_assets.serving.request_origin import OriginDependency
from rag_assets.serving.routing import new_router
from rag_assets.serving.schemas import Name, RequestBody
from rag_assets.serving.service import ServiceDependency
from resources.errors import ConfigError
from resources.postgres.identity.users import UserRow

router = new_router()

Admin = Annotated[Principal, requires("user:admin")]
Names = Annotated[tuple[Name, ...], Field(max_length=1000)]
Permissions = tuple[Permission, ...]
Password = Annotated[SecretStr, Field(max_length=MAX_BYTES)]
Limit = Annotated[int, Query(ge=1, le=100)]


class UserAnswer(BaseModel):
    """A user. `accounts`, `chat_bots` (ACCOUNT/NAME), `sources`: what it was granted. A super_admin sees everything."""

    id: uuid.UUID
    email: str
    username: str
    full_name: str | None
    timezone: str
    role: Role
    permissions: list[str]
    accounts: list[str]
    chat_bots: list[str]
    sources: list[str]
    is_active: bool
    is_verified: bool
    has_password: bool
    locked_until: datetime | None
    last_login_at: datetime | None
    password_changed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class UsersAnswer(BaseModel):
    """A page of users. `next`: the cursor of the next page; null at the end."""

    users: list[UserAnswer]
    next: str | None


class NewUserBody(RequestBody):
    """Without a password the user holds API keys and cannot log in. With one it is verified."""

    email: Name
    username: Annotated[Name, Field(max_length=100)]
    role: Role = "viewer"
    permissions: Permissions = ()
    accounts: Names = ()
    chat_bots: Names = ()
    sources: Names = ()
    full_name: Name | None = None
    timezone: Annotated[Name, Field(max_length=50)] = "Asia/Tokyo"
    password: Password | None = None


class RoleBody(RequestBody):
    role: Role


class PasswordBody(RequestBody):
    password: Password


class GrantsBody(RequestBody):
    """What a user is to see, and single permissions beyond those of its role."""

    accounts: Names = ()
    chat_bots: Names = ()
    sources: Names = ()
    permissions: Permissions = ()


@router.get("/v1/users", summary="List users")
def list_users(
    caller: Admin, service: ServiceDependency, limit: Limit = 50, cursor: Name | None = None
) -> UsersAnswer:
    """Return the users within the caller's reach, by username."""
    with service.connections.connection() as connection:
        rows = users.list_users(connection, caller, limit=limit + 1, after=cursor)
    following = rows[limit - 1].username if len(rows) > limit else None
    return UsersAnswer(users=[_answer(row) for row in rows[:limit]], next=following)


@router.post("/v1/users", status_code=201, summary="Add a user")
def add(
    body: NewUserBody, caller: Admin, service: ServiceDependency, origin: OriginDependency
) -> UserAnswer:
    """Add a user, with a role and permissions that the caller has too."""
    hashed = None
    if body.password is not None:
        password = body.password.get_secret_value()
        hashed = service.passwords.new_hash(password, email=body.email, username=body.username)
    spec = users.UserSpec(
        body.email,
        body.username,
        body.role,
        body.permissions,
        body.full_name,
        body.timezone,
        hashed,
    )
    with service.connections.connection() as connection:
        return _answer(users.add(connection, caller, spec, _grants(body), origin))


@router.get("/v1/users/{user_id}", summary="Read a user")
def read(user_id: uuid.UUID, caller: Admin, service: ServiceDependency) -> UserAnswer:
    with service.connections.connection() as connection:
        return _answer(reachable_user(connection, caller, user_id))


@router.delete("/v1/users/{user_id}", status_code=204, summary="Remove a user")
def remove(
    user_id: uuid.UUID, caller: Admin, service: ServiceDependency, origin: OriginDependency
) -> None:
    """Remove a user with its API keys and sessions."""
    with service.connections.connection() as connection:
        users.remove(connection, caller, user_id, origin)


@router.put("/v1/users/{user_id}/role", summary="Change a role")
def change_role(
    user_id: uuid.UUID,
    body: RoleBody,
    caller: Admin,
    service: ServiceDependency,
    origin: OriginDependency,
) -> UserAnswer:
    """Give a user another role. Keys and tokens follow within two seconds."""
    with service.connections.connection() as connection:
        return _answer(users.set_role(connection, caller, user_id, body.role, origin))


@router.post("/v1/users/{user_id}/lock", summary="Lock a user")
def lock(
    user_id: uuid.UUID, caller: Admin, service: ServiceDependency, origin: OriginDependency
) -> UserAnswer:
    """Refuse the user's keys, tokens and passwords, and end its sessions."""
    with service.connections.connection() as connection:
        return _answer(users.lock(connection, caller, user_id, origin))


@router.post("/v1/users/{user_id}/unlock", summary="Unlock a user")
def unlock(
    user_id: uuid.UUID, caller: Admin, service: ServiceDependency, origin: OriginDependency
) -> UserAnswer:
    """Accept the user's keys and logins again, also after too many wrong passwords."""
    with service.connections.connection() as connection:
        return _answer(users.unlock(connection, caller, user_id, origin))


@router.put("/v1/users/{user_id}/password", summary="Set a user's password")
def set_password(
    user_id: uuid.UUID,
    body: PasswordBody,
    caller: Admin,
    service: ServiceDependency,
    origin: OriginDependency,
) -> UserAnswer:
    """Set a new password, which verifies the user and ends its sessions."""
    with service.connections.connection() as connection:
        user = reachable_user(connection, caller, user_id)
    # Without a connection: passwords may wait for each other.
    password = body.password.get_secret_value()
    hashed = service.passwords.new_hash(password, email=user.email, username=user.username)
    with service.connections.connection() as connection:
        return _answer(users.set_password(connection, caller, user_id, hashed, origin))


@router.post("/v1/users/{user_id}/grants", summary="Grant access")
def grant(
    user_id: uuid.UUID,
    body: GrantsBody,
    caller: Admin,
    service: ServiceDependency,
    origin: OriginDependency,
) -> UserAnswer:
    """Let a user see more, or do more than its role allows. What it has already stays."""
    wanted = _expect_something(_grants(body), body.permissions)
    with service.connections.connection() as connection, connection.transaction():
        user = reachable_user(connection, caller, user_id)
        if body.permissions:
            user = users.add_permissions(connection, caller, user_id, body.permissions, origin)
        if wanted:
            user = grants.grant(connection, caller, user_id, wanted, origin)
        return _answer(user)


@router.delete("/v1/users/{user_id}/grants", summary="Take back access")
def revoke(
    user_id: uuid.UUID,
    caller: Admin,
    service: ServiceDependency,
    origin: OriginDependency,
    account: Annotated[tuple[Name, ...], Query(max_length=100)] = (),
    chat_bot: Annotated[tuple[Name, ...], Query(max_length=100)] = (),
    source: Annotated[tuple[Name, ...], Query(max_length=100)] = (),
    permission: Annotated[tuple[Permission, ...], Query(max_length=100)] = (),
) -> UserAnswer:
    """Take back what was granted. Something that the user was not granted is an error, and changes nothing."""
    unwanted = _expect_something(Grants(account, chat_bot, source), permission)
    with service.connections.connection() as connection, connection.transaction():
        user = reachable_user(connection, caller, user_id)
        if permission:
            user = users.remove_permissions(connection, caller, user_id, permission, origin)
        if unwanted:
            user = grants.revoke(connection, caller, user_id, unwanted, origin)
        return _answer(user)


def _answer(user: UserRow) -> UserAnswer:
    return UserAnswer.model_validate(user._asdict())


def _grants(body: NewUserBody | GrantsBody) -> Grants:
    return Grants(body.accounts, body.chat_bots, body.sources)


def _expect_something(wanted: Grants, permissions: Permissions) -> Grants:
    if not wanted and not permissions:
        raise ConfigError("Expected an account, a chat bot, a source or a permission, found none.")
    return wanted
