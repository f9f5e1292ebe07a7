"""Who may do what: roles contain one another, a key never exceeds its owner, and nobody grants beyond themselves."""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.identity.reach import expect_grantable, grantable_roles, reach_of
from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.permissions import (
    PERMISSIONS,
    ROLES,
    Role,
    effective_permissions,
    role_permissions,
)
from rag_assets.pipeline.principal import Principal, Target, allowed, in_scope
from resources.errors import ConfigError, Forbidden
from resources.postgres.identity.users import EVERYBODY

roles = st.sampled_from(ROLES)
permissions = st.frozensets(st.sampled_from((*PERMISSIONS, "no:permission")))


def principal(role: Role, more: Any = (), limited: Any = None, **scope: Any) -> Principal:
    effective = effective_permissions(role, more, limited)
    names: dict[str, Any] = {"sources": None, "accounts": None, "chat_bots": None, **scope}
    return Principal(uuid.uuid4(), "ann", role, AccessScope("user:ann", **names, permissions=effective))  # fmt: skip


def test_each_role_contains_the_lower_ones() -> None:
    sets = [role_permissions(role) for role in ROLES]
    assert all(lower < higher for lower, higher in pairwise(sets))
    assert sets[-1] == set(PERMISSIONS)


@given(roles, permissions, permissions)
def test_a_key_does_what_it_and_its_owner_both_may(role: Role, added: Any, listed: Any) -> None:
    of_owner = effective_permissions(role, added)
    of_key = effective_permissions(role, added, listed)
    assert of_key == of_owner & listed
    assert of_owner == (role_permissions(role) | added) & set(PERMISSIONS)


@given(roles, permissions, permissions, roles, permissions)
def test_nobody_grants_what_they_do_not_have(
    role: Role, added: Any, listed: Any, granted_role: Role, granted: Any
) -> None:
    actor = principal(role, added, listed)
    try:
        expect_grantable(actor, granted_role, granted)
    except ConfigError:
        assert "no:permission" in granted
    except Forbidden:
        beyond = not effective_permissions(granted_role, granted) <= actor.permissions
        assert beyond or ROLES.index(granted_role) > ROLES.index(role)
    else:
        assert effective_permissions(granted_role, granted) <= actor.permissions
        assert ROLES.index(granted_role) <= ROLES.index(role)
        reach = reach_of(actor)
        assert reach.roles is None or granted_role in reach.roles


def test_only_a_full_super_admin_reaches_everybody() -> None:
    assert reach_of(Principal.owner()) == reach_of(principal("super_admin")) == EVERYBODY
    limited = reach_of(principal("super_admin", limited=["user:admin", "search:read"]))
    assert (limited.roles, limited.permissions) == ([], ["search:read", "user:admin"])
    nothing: frozenset[str] = frozenset()
    of_account = principal(
        "admin", ["user:admin"], sources=nothing | {"docs"}, accounts=nothing | {"north"}, chat_bots=nothing
    )  # fmt: skip
    reach = reach_of(of_account)
    assert reach.roles == ["viewer", "editor", "admin"] == grantable_roles(of_account)
    assert (reach.accounts, reach.chat_bots, reach.sources) == (["north"], [], ["docs"])


def test_permissions_act_within_the_scope() -> None:
    admin = principal(
        "admin", sources=frozenset({"docs"}), accounts=frozenset({"north"}), chat_bots=frozenset({"south/faq"})
    )  # fmt: skip
    assert allowed(admin, "job:run") and not allowed(admin, "user:admin")
    assert not allowed(None, "search:read")
    assert not allowed(admin, "no:permission")  # pyright: ignore[reportArgumentType]
    for target, inside in {
        Target(source="docs"): True,
        Target(source="other"): False,
        Target(account="north"): True,
        Target(account="south"): False,
        Target(account="north", source="other"): False,
        # An account contains its chat bots, but not the other way round.
        Target(chat_bot="north/any"): True,
        Target(chat_bot="south/faq"): True,
        Target(chat_bot="south/other"): False,
        Target(account="south", chat_bot="south/faq"): False,
    }.items():
        assert allowed(admin, "job:run", target) == in_scope(admin, target) == inside, target
        assert allowed(Principal.owner(), "job:run", target)
    nothing = principal("admin", sources=frozenset(), accounts=frozenset(), chat_bots=frozenset())
    assert not in_scope(nothing, Target(source="docs")) and in_scope(nothing, Target())


@pytest.mark.parametrize("role", ROLES[:-1])
def test_only_a_super_admin_administers_users(role: Role) -> None:
    assert not allowed(principal(role), "user:admin")
