"""`/v1/api-keys`: a caller's own keys, and those of users whom it administers. Other keys are unknown (404)."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, Field

from rag_assets.identity import api_keys
from rag_assets.identity.api_keys import GRACE, MAX_GRACE, MAX_RATE_LIMIT, RATE_LIMIT, IssuedKey
from rag_assets.pipeline.permissions import Permission
from rag_assets.pipeline.principal import Principal
from rag_assets.serving.authorization import requires
from rag_assets.serving.request_origin import OriginDependency
from rag_assets.serving.routing import new_router
from rag_assets.serving.schemas import Name, RequestBody, Text
from rag_assets.serving.service import ServiceDependency
from resources.errors import ConfigError
from resources.postgres.identity.api_keys import KeyRow

router = new_router()

Caller = Annotated[Principal, requires("self")]
Limit = Annotated[int, Query(ge=1, le=100)]


class ApiKeyAnswer(BaseModel):
    """A key without its secret. `permissions`: those that its owner has too when it is used count."""

    id: uuid.UUID
    user_id: uuid.UUID
    username: str
    key_prefix: str
    name: str
    description: str | None
    permissions: list[str]
    networks: list[str]
    rate_limit_per_minute: int
    usage_count: int
    last_used_at: datetime | None
    is_active: bool
    expires_at: datetime | None
    created_at: datetime


class IssuedKeyAnswer(ApiKeyAnswer):
    """A new key. `key` is shown only here."""

    key: str


class ApiKeysAnswer(BaseModel):
    """A page of keys. `next`: the cursor of the next page; null at the end."""

    api_keys: list[ApiKeyAnswer]
    next: uuid.UUID | None


class NewKeyBody(RequestBody):
    """`user_id`: the owner; default: the caller. `permissions`: default: those to read. `networks`: none: all."""

    name: Name
    user_id: uuid.UUID | None = None
    description: Annotated[Text, Field(max_length=1000)] | None = None
    permissions: list[Permission] | None = None
    expires_at: AwareDatetime | None = None
    networks: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT)] = RATE_LIMIT


class RotationBody(RequestBody):
    """`grace_seconds`: how long the old key still works."""

    grace_seconds: Annotated[int, Field(ge=0, le=int(MAX_GRACE.total_seconds()))] = int(
        GRACE.total_seconds()
    )


@router.get("/v1/api-keys", summary="List API keys")
def list_keys(
    caller: Caller,
    service: ServiceDependency,
    user_id: uuid.UUID | None = None,
    limit: Limit = 50,
    cursor: uuid.UUID | None = None,
) -> ApiKeysAnswer:
    """Return the caller's keys and those of users whom it administers; a key that calls sees only itself."""
    with service.connections.connection() as connection:
        rows = api_keys.list_keys(connection, caller, user_id, limit=limit + 1, after=cursor)
    following = rows[limit - 1].id if len(rows) > limit else None
    return ApiKeysAnswer(api_keys=[_answer(row) for row in rows[:limit]], next=following)


@router.post("/v1/api-keys", status_code=201, summary="Add an API key")
def add(
    body: NewKeyBody, caller: Caller, service: ServiceDependency, origin: OriginDependency
) -> IssuedKeyAnswer:
    """Add a key with permissions that its owner and the caller have. A key that calls must have user:admin."""
    user_id = body.user_id or caller.user_id
    if user_id is None:
        raise ConfigError("user_id: expected the owner of the key, found none")
    spec = api_keys.KeySpec(
        body.name,
        body.permissions,
        body.expires_at,
        body.networks,
        body.rate_limit_per_minute,
        body.description,
    )
    secret = service.deployment.secret
    with service.connections.connection() as connection:
        return _issued(api_keys.add(connection, caller, secret, user_id, spec, origin))


@router.get("/v1/api-keys/{key_id}", summary="Read an API key")
def read(key_id: uuid.UUID, caller: Caller, service: ServiceDependency) -> ApiKeyAnswer:
    with service.connections.connection() as connection:
        return _answer(api_keys.get(connection, caller, key_id))


@router.post("/v1/api-keys/{key_id}/rotate", status_code=201, summary="Rotate an API key")
def rotate(
    key_id: uuid.UUID,
    body: RotationBody,
    caller: Caller,
    service: ServiceDependency,
    origin: OriginDependency,
) -> IssuedKeyAnswer:
    """Add a key with the same settings; the old one expires after the grace period."""
    grace = timedelta(seconds=body.grace_seconds)
    secret = service.deployment.secret
    with service.connections.connection() as connection:
        return _issued(api_keys.rotate(connection, caller, secret, key_id, grace, origin))


@router.delete("/v1/api-keys/{key_id}", status_code=204, summary="Revoke an API key")
def revoke(
    key_id: uuid.UUID, caller: Caller, service: ServiceDependency, origin: OriginDependency
) -> None:
    """Refuse a key from now on. It stays in the list."""
    with service.connections.connection() as connection:
        api_keys.revoke(connection, caller, key_id, origin)


def _fields(key: KeyRow) -> dict[str, object]:
    return {**key._asdict(), "networks": list(map(str, key.networks))}


def _answer(key: KeyRow) -> ApiKeyAnswer:
    return ApiKeyAnswer.model_validate(_fields(key))


def _issued(issued: IssuedKey) -> IssuedKeyAnswer:
    return IssuedKeyAnswer.model_validate({**_fields(issued.row), "key": issued.text})
