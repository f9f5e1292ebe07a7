"""Users, API keys and grants on a real PostgreSQL: who is recognised, how fast a change acts, who may change whom."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rag_assets.identity import api_keys, changes, grants, one_time_tokens, users
from rag_assets.identity.api_key_format import ApiKey, new_key
from rag_assets.identity.api_keys import IssuedKey, KeySpec
from rag_assets.identity.authentication import CACHED, Authenticator
from rag_assets.identity.grants import Grants
from rag_assets.identity.reach import reachable_user
from rag_assets.pipeline.permissions import role_permissions
from rag_assets.pipeline.principal import Principal
from resources.errors import ConfigError, Conflict, Forbidden, NotAuthenticated, NotFound
from resources.postgres.connection import Connection
from resources.postgres.connection_pool import Connections
from resources.postgres.identity.grants import ensure_account
from resources.postgres.identity.users import UserRow
from resources.postgres.registry.sources import add_source
from resources.secret_key import SecretKey

OWNER = Principal.owner()
SECRET = SecretKey((b"the secret of these tests",))
HERE = "10.1.2.3"


@dataclass
class Deployment:
    """The tables, emptied, with sources `docs` and `plans` of account north, `wiki` of south, and `vault` of none."""

    connection: Connection
    connections: Connections
    now: float = 1000.0
    opened: list[Authenticator] = field(default_factory=list)

    def user(self, name: str, role: str = "viewer", granted: Any = (), **spec: Any) -> UserRow:
        new = users.UserSpec(f"{name}@example.com", name, role, **spec)
        return users.add(self.connection, OWNER, new, Grants(**dict(granted)))

    def key(self, user: UserRow, actor: Principal = OWNER, **spec: Any) -> IssuedKey:
        return api_keys.add(
            self.connection, actor, SECRET, user.id, KeySpec(**{"name": "test", **spec})
        )

    def authenticator(self, secret: SecretKey = SECRET) -> Authenticator:
        self.opened.append(Authenticator(self.connections, secret, lambda: self.now))
        return self.opened[-1]

    def principal(self, user: UserRow, **key: Any) -> Principal:
        """The user as it comes with a key of all its permissions; without `key` as it comes with a login."""
        may = key.pop("permissions", sorted(role_permissions(user.role)) + user.permissions)  # pyright: ignore[reportArgumentType]
        issued = self.key(user, permissions=may, **key)
        return self.authenticator().by_key(issued.text, HERE)

    def login(self, user: UserRow) -> tuple[uuid.UUID, int, uuid.UUID]:
        """Return the claims of a new session's token."""
        query = """INSERT INTO sessions (user_id, expires_at) VALUES (%s, now() + '1 day')
                   RETURNING (SELECT version FROM users WHERE users.id = user_id), id"""
        row = self.connection.execute(query, [user.id]).fetchone()
        assert row is not None
        return user.id, *row

    def actions(self) -> list[str]:
        """The actions that the audit has of this test."""
        rows = self.connection.execute(
            "SELECT action FROM audit_records WHERE sequence > %s ORDER BY sequence", [self.first]
        )
        return [row[0] for row in rows]

    first: int = 0


@pytest.fixture
def deployment(connection: Connection, postgres_url: str) -> Iterator[Deployment]:
    for table in ("users", "accounts", "deployment_secrets"):
        connection.execute(f"DELETE FROM {table}")  # pyright: ignore[reportCallIssue, reportArgumentType]
    connections = Connections(postgres_url, size=4)
    deployment = Deployment(connection, connections)
    for name, account in {
        "docs": "north",
        "plans": "north",
        "wiki": "south",
        "vault": None,
    }.items():
        source = add_source(connection, name, "folder", {"path": f"/{name}"}, None)
        grants.set_account(connection, OWNER, source.id, account)
    row = connection.execute("SELECT coalesce(max(sequence), 0) FROM audit_records").fetchone()
    assert row is not None
    deployment.first = row[0]
    yield deployment
    for authenticator in deployment.opened:
        authenticator.close()
    connections.close()


def refused(authenticate: Callable[[], object]) -> str:
    with pytest.raises(NotAuthenticated) as error:
        authenticate()
    return str(error.value)


# Authentication ---------------------------------------------------------------------------------------------------


def test_only_live_keys_are_accepted_and_all_others_are_told_the_same(
    deployment: Deployment,
) -> None:
    ann, bob = deployment.user("ann", "editor"), deployment.user("bob")
    keys = [deployment.key(ann, permissions=["document:write"]) for _ in range(3)]
    inside = deployment.key(ann, networks=["10.0.0.0/8", "2001:db8::/32"])
    expired, revoked, locked = deployment.key(ann), deployment.key(ann), deployment.key(bob)
    expire = "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = %s"
    deployment.connection.execute(expire, [expired.row.id])
    api_keys.revoke(deployment.connection, OWNER, revoked.row.id)
    users.lock(deployment.connection, OWNER, bob.id)
    other = new_key()
    guessed = ApiKey(keys[0].row.key_prefix, keys[0].row.key_prefix[-12:], other.secret)
    by_key = deployment.authenticator().by_key
    # Several live keys of one name, for rotation.
    assert {by_key(key.text, HERE).permissions for key in keys} == {frozenset(["document:write"])}
    assert by_key(keys[0].text, "").key_id == keys[0].row.key_prefix[-12:]
    for address in (HERE, "::ffff:10.1.2.3", "2001:db8::1"):
        assert by_key(inside.text, address).username == "ann"
    messages = {
        refused(lambda key=key, address=address: by_key(key, address))
        for key, address in (
            (expired.text, HERE),
            (revoked.text, HERE),
            (locked.text, HERE),
            # Also while an answer for another address is remembered.
            (inside.text, "11.1.2.3"),
            (inside.text, ""),
            (other.text, HERE),
            (guessed.text, HERE),
            (keys[0].text[:-1], HERE),
            ("", HERE),
        )
    }
    assert messages == {"This key or token is not accepted."}


def test_changes_act_within_two_seconds(deployment: Deployment) -> None:
    ann = deployment.user("ann", "admin", {"accounts": ("north",)})
    key = deployment.key(ann, permissions=["document:write", "job:run"]).text
    authenticator = deployment.authenticator()
    seen = lambda: authenticator.by_key(key, HERE)  # noqa: E731
    assert CACHED < 2
    assert seen().permissions == {"document:write", "job:run"}
    assert seen().scope.sources == {"docs", "plans"}
    users.set_role(deployment.connection, OWNER, ann.id, "editor")
    # Remembered, and not longer than that: the time begins before the query.
    deployment.now += CACHED / 2
    assert authenticator.recent(key, HERE) == seen()
    assert authenticator.recent(key, HERE).permissions == {"document:write", "job:run"}  # pyright: ignore[reportOptionalMemberAccess]
    deployment.now += CACHED / 2
    assert authenticator.recent(key, HERE) is None
    assert seen().permissions == {"document:write"}
    grants.revoke(deployment.connection, OWNER, ann.id, Grants(accounts=("north",)))
    grants.grant(
        deployment.connection, OWNER, ann.id, Grants(("south",), ("north/faq",), ("docs",))
    )
    deployment.now += CACHED
    scope = seen().scope
    assert (scope.sources, scope.accounts, scope.chat_bots) == (
        {"docs", "wiki"},
        {"south"},
        {"north/faq"},
    )
    users.lock(deployment.connection, OWNER, ann.id)
    deployment.now += CACHED
    refused(seen)
    users.unlock(deployment.connection, OWNER, ann.id)
    assert seen().permissions == {"document:write"}


def test_a_key_that_expires_is_not_remembered_beyond_that(deployment: Deployment) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    key = deployment.key(deployment.user("ann"), expires_at=soon).text
    authenticator = deployment.authenticator()
    authenticator.by_key(key, HERE)
    deployment.now += 1
    assert CACHED > 1 and authenticator.recent(key, HERE) is None


def test_a_token_ends_with_its_session_and_with_every_change_of_rights(
    deployment: Deployment,
) -> None:
    ann = deployment.user("ann", "editor", {"sources": ("docs",)})
    root = deployment.user("root", "super_admin")
    connection, by_user = deployment.connection, deployment.authenticator().by_user
    principal = by_user(*deployment.login(ann))
    assert (principal.identity, principal.scope.sources) == (f"user:{ann.id}", {"docs"})
    assert by_user(*deployment.login(root)).scope.sources is None
    refused(lambda: by_user(root.id, 1, principal.session_id or root.id))
    token = one_time_tokens.issue(connection, "password", ann.id)
    for change in (
        lambda: users.set_role(connection, OWNER, ann.id, "viewer"),
        lambda: users.add_permissions(connection, OWNER, ann.id, ["job:run"]),
        lambda: grants.grant(connection, OWNER, ann.id, Grants(sources=("wiki",))),
        lambda: grants.revoke(connection, OWNER, ann.id, Grants(sources=("wiki",))),
        lambda: users.set_password(connection, OWNER, ann.id, "a hash"),
        lambda: users.lock(connection, OWNER, ann.id),
    ):
        claims = deployment.login(ann)
        assert by_user(*claims).session_id == claims[2]
        change()
        deployment.now += CACHED
        refused(lambda claims=claims: by_user(*claims))
    users.unlock(connection, OWNER, ann.id)
    claims = deployment.login(ann)
    connection.execute("UPDATE sessions SET revoked_at = now() WHERE id = %s", [claims[2]])
    refused(lambda: by_user(*claims))
    # A new password and a lock also end the sessions themselves.
    ended = connection.execute(
        "SELECT revoked_because, count(*) FROM sessions WHERE revoked_because IS NOT NULL GROUP BY 1"
    )
    assert dict(ended.fetchall()) == {"password": 6, "lock": 1}
    refused(lambda: one_time_tokens.look(connection, token, "password"))


def test_uses_are_counted_also_those_that_were_remembered(deployment: Deployment) -> None:
    key = deployment.key(deployment.user("ann"))
    authenticator = deployment.authenticator()
    for _ in range(5):
        authenticator.by_key(key.text, HERE)
    assert authenticator.recent(key.text, HERE) is not None
    authenticator.close()
    (row,) = api_keys.list_keys(deployment.connection, OWNER)
    assert row.usage_count == 6 and row.last_used_at is not None


def test_another_secret_is_named_and_a_rotated_one_is_taken_over(deployment: Deployment) -> None:
    key = deployment.key(deployment.user("ann"))
    new = SecretKey((b"another secret of these tests",))
    with pytest.raises(ConfigError, match=r"RAG_SECRET_KEY: the API keys .* with another secret"):
        deployment.authenticator(new).by_key(key.text, HERE)
    both = deployment.authenticator(SecretKey(new.secrets + SECRET.secrets))
    assert both.by_key(key.text, HERE).username == "ann"
    # The hash was made again at that use: the old secret may go.
    assert deployment.authenticator(new).by_key(key.text, HERE).username == "ann"
    with pytest.raises(ConfigError, match="another secret"):
        deployment.authenticator().check_secret()
    # Where no live key needs it, a lost secret is forgotten.
    api_keys.revoke(deployment.connection, OWNER, key.row.id)
    deployment.authenticator().check_secret()


# Use-cases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        users.lock,
        users.remove,
        lambda connection, actor, user: users.set_role(connection, actor, user, "admin"),
    ],
)
def test_of_two_super_admins_one_remains_whatever_happens_at_once(
    deployment: Deployment, postgres_url: str, change: Callable[..., Any]
) -> None:
    ann, bob = (deployment.user(name, "super_admin") for name in ("ann", "bob"))
    deployment.user("eve", "admin")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"

    def second() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            change(other, OWNER, bob.id)

    with ThreadPoolExecutor(1) as threads:
        with deployment.connection.transaction():
            change(deployment.connection, OWNER, ann.id)
            result = threads.submit(second)
            with psycopg.connect(postgres_url, autocommit=True) as watcher:
                for _ in range(1000):
                    if watcher.execute(waits).fetchone() != (0,):
                        break
                    threading.Event().wait(0.01)
                else:
                    raise AssertionError("the second change did not wait")
        with pytest.raises(Conflict, match="bob is the last active super_admin"):
            result.result(20)
    assert users.get_by_name(deployment.connection, OWNER, "bob").is_active


def test_who_administers_users_stays_within_role_permissions_and_accounts(
    deployment: Deployment,
) -> None:
    connection = deployment.connection
    north: Any = {"accounts": ("north",)}
    head = deployment.user("head", "admin", north, permissions=["user:admin"])
    actor = deployment.principal(head)
    own = [
        deployment.user("editor", "editor", {"sources": ("docs",)}),
        deployment.user("peer", "admin", north),
    ]
    ensure_account(connection, "east")
    foreign = [
        deployment.user("east", "viewer", {"accounts": ("north", "east")}),
        deployment.user("both", "viewer", {"accounts": ("north", "south")}),
        deployment.user("bot", "viewer", {"chat_bots": ("south/faq",)}),
        deployment.user("new"),
        deployment.user("vault", "viewer", {"sources": ("vault",)}),
        deployment.user("backups", "viewer", north, permissions=["backup:run"]),
        deployment.user("root", "super_admin", north),
    ]
    assert [user.username for user in users.list_users(connection, actor)] == [
        "editor",
        "head",
        "peer",
    ]
    actions: list[Callable[[uuid.UUID], object]] = [
        lambda user: reachable_user(connection, actor, user),
        lambda user: users.set_role(connection, actor, user, "viewer"),
        lambda user: users.lock(connection, actor, user),
        lambda user: users.unlock(connection, actor, user),
        lambda user: users.set_password(connection, actor, user, "a hash"),
        lambda user: users.add_permissions(connection, actor, user, ["job:run"]),
        lambda user: grants.grant(connection, actor, user, Grants(sources=("docs",))),
        lambda user: api_keys.add(connection, actor, SECRET, user, KeySpec("mine")),
        lambda user: users.remove(connection, actor, user),
    ]
    for user in (*foreign, None):
        for action in actions:
            with pytest.raises(NotFound, match="There is no user"):
                action(user.id if user else uuid.uuid4())
    for forbidden in (
        lambda: users.set_role(connection, actor, own[0].id, "super_admin"),
        lambda: users.add_permissions(connection, actor, own[0].id, ["backup:run"]),
        # A stolen token must not become a password.
        lambda: users.set_password(connection, actor, actor.user_id or own[0].id, "a hash"),
        # Without a grant it would be nobody's.
        lambda: users.add(connection, actor, users.UserSpec("x@example.com", "x")),
        lambda: users.add(connection, actor, users.UserSpec("x@example.com", "x", "super_admin"), Grants(("north",))),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            forbidden()
    for names in (Grants(("south",)), Grants((), ("south/faq",)), Grants((), (), ("vault",))):
        for unseen in (
            lambda names=names: grants.grant(connection, actor, own[0].id, names),
            lambda names=names: users.add(connection, actor, users.UserSpec("x@example.com", "x"), names),
        ):  # fmt: skip
            with pytest.raises(NotFound, match=r"There is no (account|chat bot|source)"):
                unseen()
    added = users.add(
        connection,
        actor,
        users.UserSpec("X@Example.com ", "x", "editor"),
        Grants(("north",), ("north/faq",)),
    )
    assert (added.email, added.accounts, added.chat_bots) == (
        "x@example.com",
        ["north"],
        ["north/faq"],
    )
    for action in actions:
        action(own[0].id)
    # A key has no more users than its own permissions reach.
    limited = deployment.principal(head, permissions=["user:admin", "search:read"])
    assert users.list_users(connection, limited) == []


def test_a_key_handles_only_itself_and_a_login_all_keys_of_its_user(deployment: Deployment) -> None:
    connection = deployment.connection
    docs = {"sources": ("docs",)}
    ann, bob = (deployment.user(name, "editor", docs) for name in ("ann", "bob"))
    deployment.key(bob)
    first = deployment.principal(ann, name="first")
    second = deployment.key(ann, name="second")
    login = deployment.authenticator().by_user(*deployment.login(ann))
    listed = lambda actor: [row.name for row in api_keys.list_keys(connection, actor)]  # noqa: E731
    assert listed(first) == ["first"] and sorted(listed(login)) == ["first", "second"]
    assert api_keys.list_keys(connection, login, bob.id) == []
    for stranger in (first, deployment.authenticator().by_user(*deployment.login(bob))):
        for act in (api_keys.get, api_keys.revoke):
            with pytest.raises(NotFound):
                act(connection, stranger, second.row.id)
    # A stolen key makes none that outlives it.
    for issue in (
        lambda: api_keys.add(connection, first, SECRET, ann.id, KeySpec("more")),
        lambda: api_keys.rotate(connection, first, SECRET, second.row.id),
    ):
        with pytest.raises(Forbidden):
            issue()
    with pytest.raises(NotFound):
        api_keys.add(connection, login, SECRET, bob.id, KeySpec("bob's"))
    with pytest.raises(ConfigError) as error:
        spec = KeySpec("", ["job:run"], datetime(2020, 1, 1, tzinfo=UTC), ["10.0.0.1/8"], 101)
        api_keys.add(connection, login, SECRET, ann.id, spec)
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "name", "permissions", "expires_at", "rate_limit_per_minute", "networks",
    ]  # fmt: skip
    issued = api_keys.add(connection, login, SECRET, ann.id, KeySpec("own"))
    assert issued.row.permissions == ["document:read", "search:read"]
    api_keys.revoke(connection, login, second.row.id)
    refused(lambda: deployment.authenticator().by_key(second.text, HERE))


def test_a_rotated_key_has_the_same_settings_and_the_old_one_a_grace(
    deployment: Deployment,
) -> None:
    ends = datetime.now(UTC) + timedelta(days=90)
    old = deployment.key(
        deployment.user("ann", "editor"), permissions=["document:write"], networks=["10.0.0.0/8"],
        expires_at=ends, rate_limit_per_minute=7,
    )  # fmt: skip
    new = api_keys.rotate(deployment.connection, OWNER, SECRET, old.row.id, timedelta(hours=1))
    varying = {"id", "key_prefix", "created_at"}
    assert {
        name for name, value in new.row._asdict().items() if value != getattr(old.row, name)
    } == varying
    by_key = deployment.authenticator().by_key
    assert by_key(old.text, HERE).permissions == by_key(new.text, HERE).permissions
    left = api_keys.get(deployment.connection, OWNER, old.row.id).expires_at
    assert left is not None and timedelta(minutes=59) < left - datetime.now(UTC) <= timedelta(
        hours=1
    )
    api_keys.rotate(deployment.connection, OWNER, SECRET, new.row.id, timedelta())
    refused(lambda: deployment.authenticator().by_key(new.text, HERE))
    with pytest.raises(Conflict, match="is expired"):
        api_keys.rotate(deployment.connection, OWNER, SECRET, new.row.id)


def test_rotations_make_no_more_live_keys_than_a_user_may_have(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "MAX_LIVE", 2)
    old = deployment.key(deployment.user("ann", "editor")).row.id
    api_keys.rotate(deployment.connection, OWNER, SECRET, old, timedelta(hours=1))
    with pytest.raises(Conflict, match="2 live keys"):
        api_keys.rotate(deployment.connection, OWNER, SECRET, old, timedelta(hours=1))
    # Without a grace the old one makes room.
    api_keys.rotate(deployment.connection, OWNER, SECRET, old, timedelta())


def test_a_user_who_was_removed_a_moment_ago_gets_no_key(deployment: Deployment) -> None:
    admin = deployment.user("removed", "super_admin")
    deployment.user("other", "super_admin")
    remembered = deployment.principal(admin, permissions=sorted(role_permissions("super_admin")))
    users.remove(deployment.connection, OWNER, admin.id)
    with pytest.raises(NotFound):
        deployment.key(admin, remembered)


def test_names_are_unique_and_all_mistakes_are_named_at_once(deployment: Deployment) -> None:
    deployment.user("ann")
    for email, username in (("ANN@example.com", "other"), ("other@example.com", "ann")):
        with pytest.raises(Conflict, match="is taken"):
            users.add(deployment.connection, OWNER, users.UserSpec(email, username))
    with pytest.raises(ConfigError) as error:
        spec = users.UserSpec("nobody", "ann@example.com", "boss", ["all"], timezone="Mars/Olympus")
        users.add(deployment.connection, OWNER, spec)
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "email",
        "username",
        "timezone",
        "role",
        "permissions",
    ]
    assert users.get_by_name(deployment.connection, OWNER, "Ann@Example.com").username == "ann"


def test_changes_are_in_the_audit_or_did_not_happen_and_no_secret_is(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = deployment.connection
    ann = deployment.user("ann", "editor", {"sources": ("docs",)}, password_hash="$argon2id$hush")
    key = deployment.key(ann)
    new = api_keys.rotate(connection, OWNER, SECRET, key.row.id)
    results = [
        ann,
        api_keys.revoke(connection, OWNER, key.row.id),
        api_keys.revoke(connection, OWNER, key.row.id),
        users.set_role(connection, OWNER, ann.id, "admin"),
        users.add_permissions(connection, OWNER, ann.id, ["backup:run"]),
        users.remove_permissions(connection, OWNER, ann.id, ["backup:run"]),
        grants.grant(connection, OWNER, ann.id, Grants(("south",))),
        grants.revoke(connection, OWNER, ann.id, Grants(("south",))),
        users.lock(connection, OWNER, ann.id),
        users.unlock(connection, OWNER, ann.id),
        users.set_password(connection, OWNER, ann.id, "$argon2id$hush again"),
        users.list_users(connection, OWNER),
        api_keys.list_keys(connection, OWNER),
        (key, new),
    ]
    recorded = [
        "user.create", "key.create", "key.rotate", "key.revoke", "user.role", "user.permissions", "user.permissions",
        "grant.add", "grant.remove", "user.lock", "user.unlock", "user.password",
    ]  # fmt: skip
    assert deployment.actions() == recorded
    audit = connection.execute(
        "SELECT audit_records::text FROM audit_records WHERE sequence > %s", [deployment.first]
    )
    hashes = [row[0] for row in connection.execute("SELECT key_hash FROM api_keys").fetchall()]
    shown = f"{results} {audit.fetchall()}"
    secrets = ["hush", key.text[21:64], new.text[21:64], *hashes]
    assert [secret for secret in secrets if secret in shown] == []

    def away(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(changes, "append", away)
    for change in (
        lambda: users.remove(connection, OWNER, ann.id),
        lambda: users.set_role(connection, OWNER, ann.id, "viewer"),
        lambda: grants.grant(connection, OWNER, ann.id, Grants(("south",))),
        lambda: api_keys.revoke(connection, OWNER, new.row.id),
        lambda: deployment.user("bob"),
        lambda: deployment.key(ann),
    ):
        with pytest.raises(RuntimeError):
            change()
    assert users.list_users(connection, OWNER) == [reachable_user(connection, OWNER, ann.id)]
    assert reachable_user(connection, OWNER, ann.id)[5:10] == ("admin", [], [], [], ["docs"])
    assert [row.is_active for row in api_keys.list_keys(connection, OWNER)].count(True) == 1
