"""Sessions, logins and one-time tokens on PostgreSQL: what is accepted once, what ends, and what has to wait."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, LiteralString

import pytest

from rag_assets.identity import one_time_tokens
from rag_assets.identity.access_tokens import AccessTokens
from rag_assets.identity.key_ring import KeyRing, KeyTimes, rotate, token_header
from rag_assets.identity.login_delays import (
    FREE_OF_ACCOUNT,
    FREE_OF_NETWORK,
    network_of,
)
from rag_assets.identity.logins import Logins
from rag_assets.identity.passwords import Passwords
from rag_assets.identity.sessions import A_MINUTE, GRACE
from rag_assets.pipeline.principal import Principal
from resources.errors import ConfigError, Conflict, LimitExceeded, NotAuthenticated, Overloaded
from resources.postgres.identity.login_failures import forget_old
from resources.postgres.identity.sessions import forget_ended
from resources.postgres.queries import scalar, scalars
from resources.secret_key import SecretKey
from tests.support.identity import ABROAD, HOME, PASSWORD, SECRET, CountedPasswords, Identity
from tests.support.service import awaited


def at_once(count: int, action: Callable[[], object]) -> list[object]:
    """Return the results, or errors, of the same action in threads that begin together."""
    together = threading.Barrier(count)

    def run(_: int) -> object:
        together.wait()
        try:
            return action()
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def refused(results: Sequence[object], kind: type[Exception] = NotAuthenticated) -> int:
    return sum(isinstance(result, kind) for result in results)


# Sessions ---------------------------------------------------------------------------------------------------------


def test_a_refresh_token_is_exchanged_and_only_hashes_are_stored(identity: Identity) -> None:
    first = identity.login()
    claims = identity.tokens.verify(first.access_token)
    assert claims.user_id == identity.user
    second = identity.sessions.refresh(first.refresh_token, ABROAD)
    assert second.refresh_token != first.refresh_token
    assert identity.tokens.verify(second.access_token).session_id == claims.session_id
    third = identity.sessions.refresh(second.refresh_token, ABROAD)
    stored = repr(identity.connection.execute("TABLE refresh_tokens").fetchall())
    assert not any(each.refresh_token in stored for each in (first, second, third))
    assert [row[0] for row in identity.audited("auth.login")] == ["allowed"]
    assert scalar(identity.connection, "SELECT host(address) || user_agent FROM sessions") == (
        "192.0.2.7a browser"
    )


def test_a_second_use_ends_the_family(identity: Identity) -> None:
    first = identity.login()
    second = identity.sessions.refresh(first.refresh_token, HOME)
    identity.pass_time(GRACE + 1)
    for token in (first, second):
        with pytest.raises(NotAuthenticated):
            identity.sessions.refresh(token.refresh_token, ABROAD)
    assert scalar(identity.connection, "SELECT revoked_because FROM sessions") == "reuse"
    [(outcome, principal, details)] = identity.audited("auth.refresh")
    assert (outcome, principal) == ("denied", f"user:{identity.user}")
    assert details == {"reason": "reuse"}


def test_a_lost_answer_is_given_again_until_the_successor_is_used(identity: Identity) -> None:
    first = identity.login()
    second = identity.sessions.refresh(first.refresh_token, HOME)
    again = identity.sessions.refresh(first.refresh_token, HOME)
    assert again.refresh_token == second.refresh_token, "one family has one newest token"
    identity.sessions.refresh(second.refresh_token, HOME)
    with pytest.raises(NotAuthenticated):
        identity.sessions.refresh(first.refresh_token, HOME)
    assert scalar(identity.connection, "SELECT revoked_because FROM sessions") == "reuse"


def test_refreshes_at_once_get_one_successor(identity: Identity) -> None:
    token = identity.login().refresh_token
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with ThreadPoolExecutor(4) as threads:
        # All of them arrive before the first one has exchanged the token.
        with identity.connection.transaction():
            identity.connection.execute("SELECT FROM refresh_tokens FOR UPDATE")
            refreshes = [threads.submit(identity.sessions.refresh, token, HOME) for _ in range(4)]
            awaited(lambda: scalar(identity.connection, waiting) >= 4)
        successors = {refresh.result().refresh_token for refresh in refreshes}
    assert len(successors) == 1
    assert scalar(identity.connection, "SELECT count(*) FROM refresh_tokens") == 2


def test_a_session_is_refreshed_some_times_a_minute(identity: Identity) -> None:
    token = identity.login().refresh_token
    for _ in range(A_MINUTE - 1):
        token = identity.sessions.refresh(token, HOME).refresh_token
    with pytest.raises(LimitExceeded):
        identity.sessions.refresh(token, HOME)
    identity.pass_time(61)
    assert identity.sessions.refresh(token, HOME)


@pytest.mark.parametrize(
    ("because", "ending"),
    [
        ("its time is over", lambda i, t: i.connection.execute("UPDATE sessions SET expires_at = now()")),
        ("it was idle", lambda i, t: i.pass_time(timedelta(days=14).total_seconds() + 1)),
        ("it was logged out", lambda i, t: i.sessions.end(t.refresh_token, HOME)),
        ("its user is locked", lambda i, t: i.connection.execute("UPDATE users SET is_active = false")),
        ("its user is not verified", lambda i, t: i.connection.execute("UPDATE users SET is_verified = false")),
        ("its user is gone", lambda i, t: i.connection.execute("DELETE FROM users")),
    ],
)  # fmt: skip
def test_a_session_ends_because(identity: Identity, because: str, ending: Any) -> None:
    tokens = identity.login()
    ending(identity, tokens)
    with pytest.raises(NotAuthenticated):
        identity.sessions.refresh(tokens.refresh_token, HOME)


@pytest.mark.parametrize(
    "token", ["", "x", "rag_rt_" + "A" * 43, "rag_rt_" + "A" * 42 + "\0", "é" * 50]
)
def test_a_token_that_is_none_is_refused(identity: Identity, token: str) -> None:
    with pytest.raises(NotAuthenticated, match="not accepted"):
        identity.sessions.refresh(token, HOME)
    identity.sessions.end(token, HOME)


def test_a_logout_everywhere_ends_all_sessions(identity: Identity) -> None:
    tokens = [identity.login(), identity.login()]
    identity.sessions.end(tokens[0].refresh_token, HOME, everywhere=True)
    for each in tokens:
        with pytest.raises(NotAuthenticated):
            identity.sessions.refresh(each.refresh_token, HOME)
    assert [row[2] for row in identity.audited("auth.logout")] == [{"ended_sessions": 2}]


def test_ended_sessions_are_deleted_in_batches_and_live_ones_stay(identity: Identity) -> None:
    for _ in range(3):
        identity.sessions.end(identity.login().refresh_token, HOME)
    identity.pass_time(timedelta(days=8).total_seconds())
    live = identity.login()
    idle = timedelta(days=14)
    assert [forget_ended(identity.connection, idle, 2) for _ in range(3)] == [2, 1, 0]
    identity.sessions.refresh(live.refresh_token, HOME)


# Logins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ann", "ann@example.com", "Ann@Example.com ", " ann"])
def test_a_user_logs_in_by_username_or_email(identity: Identity, name: str) -> None:
    assert identity.login(name=name)


@pytest.mark.parametrize(
    "change",
    ["is_active = false", "is_verified = false", "password_hash = NULL", "username = 'bob'"],
)
def test_who_may_not_log_in_gets_the_answer_of_a_wrong_password(
    identity: Identity, change: LiteralString
) -> None:
    identity.connection.execute(f"UPDATE users SET {change}")
    with pytest.raises(NotAuthenticated, match=r"^This name and password are not accepted\.$"):
        identity.login()
    assert identity.passwords.verified == 1, "all of them cost a hash"
    assert [each.outcome for each in identity.audit.records] == ["denied"]


@pytest.mark.parametrize("name", ["ann", "nobody"])
def test_of_many_guesses_at_once_only_the_free_ones_are_verified(
    identity: Identity, name: str
) -> None:
    results = at_once(40, lambda: identity.login("wrong", ABROAD, name))
    # The one after the free ones begins the delay.
    assert identity.passwords.verified == refused(results) == FREE_OF_ACCOUNT + 1
    assert refused(results, LimitExceeded) == 40 - FREE_OF_ACCOUNT - 1


@pytest.mark.parametrize(
    ("name", "other", "is_delayed"),
    [
        ("ann", "ANN", False),
        ("nobody", "NOBODY", False),
        ("ann@example.com", "ANN@example.com", True),
        ("nobody@example.com", "NOBODY@example.com", True),
    ],
)
def test_another_case_of_a_name_does_not_tell_whether_there_is_such_a_user(
    identity: Identity, name: str, other: str, is_delayed: bool
) -> None:
    for _ in range(FREE_OF_ACCOUNT + 1):
        with pytest.raises(NotAuthenticated):
            identity.login("wrong", ABROAD, name)
    with pytest.raises(LimitExceeded if is_delayed else NotAuthenticated):
        identity.login("wrong", ABROAD, other)


def test_the_delay_grows_to_15_minutes_and_is_forgotten_after_hours(identity: Identity) -> None:
    for _ in range(FREE_OF_ACCOUNT):
        with pytest.raises(NotAuthenticated):
            identity.login("wrong", ABROAD)
    for wait in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900):
        with pytest.raises(NotAuthenticated):
            identity.login("wrong", ABROAD)
        with pytest.raises(LimitExceeded) as error:
            identity.login("wrong", ABROAD)
        assert round(error.value.retry_after) == wait
        identity.pass_time(error.value.retry_after)
    identity.pass_time(timedelta(hours=7).total_seconds())
    with pytest.raises(NotAuthenticated):
        identity.login("wrong", ABROAD)
    with pytest.raises(NotAuthenticated):
        identity.login("wrong", ABROAD)


def test_a_delayed_account_keeps_its_sessions_and_logs_in_from_where_it_was(
    identity: Identity,
) -> None:
    tokens = identity.login()
    at_once(10, lambda: identity.login("wrong", ABROAD))
    with pytest.raises(LimitExceeded):
        identity.login(origin=ABROAD)
    identity.sessions.refresh(tokens.refresh_token, ABROAD)
    for _ in range(3):
        assert identity.login(origin=HOME), "the network of an earlier login"
    with pytest.raises(LimitExceeded):
        identity.login(origin=ABROAD)
    identity.pass_time(1)
    assert identity.login(origin=ABROAD)
    for _ in range(FREE_OF_ACCOUNT):
        with pytest.raises(NotAuthenticated):
            identity.login("wrong", ABROAD)
    assert identity.login(origin=ABROAD), "a right password makes earlier attempts free again"


def test_a_network_that_guesses_many_names_is_delayed(identity: Identity) -> None:
    for number in range(FREE_OF_NETWORK + 1):
        with pytest.raises(NotAuthenticated):
            identity.login("wrong", ABROAD, f"nobody{number}")
    with pytest.raises(LimitExceeded):
        identity.login(origin=ABROAD)
    verified = identity.passwords.verified
    with pytest.raises(LimitExceeded):
        identity.login("wrong", ABROAD, "somebody")
    assert identity.passwords.verified == verified, "no hash while it is delayed"
    assert identity.login(origin=HOME)


def test_a_right_password_does_not_clear_the_guesses_of_its_network(identity: Identity) -> None:
    # The guesser has an account of its own, and logs in between guesses at others.
    for number in range(FREE_OF_NETWORK + 1):
        identity.connection.execute("DELETE FROM sessions")
        assert identity.login(origin=ABROAD)
        with pytest.raises(NotAuthenticated):
            identity.login("wrong", ABROAD, f"nobody{number}")
    identity.connection.execute("DELETE FROM sessions")
    with pytest.raises(LimitExceeded):
        identity.login(origin=ABROAD)


def test_a_login_that_gets_no_hash_is_not_counted(identity: Identity) -> None:
    identity.passwords.full = True
    for _ in range(FREE_OF_ACCOUNT + 2):
        with pytest.raises(Overloaded, match="full"):
            identity.login(origin=ABROAD)
    identity.passwords.full = False
    assert identity.login(origin=ABROAD)


def test_a_hash_with_lower_parameters_is_replaced_at_login(identity: Identity) -> None:
    stronger = CountedPasswords()
    stronger._hasher = Passwords(2, 1)._hasher
    logins = Logins(
        identity.connections, stronger, identity.sessions, identity.delays, identity.audit
    )
    before = scalar(identity.connection, "SELECT password_hash FROM users")
    tokens = logins.login("ann", PASSWORD, HOME)
    after = scalar(identity.connection, "SELECT password_hash FROM users")
    assert before != after
    version = scalar(identity.connection, "SELECT version FROM users")
    assert identity.tokens.verify(tokens.access_token).version == version
    stronger.close()


def test_old_counts_are_deleted(identity: Identity) -> None:
    for number in range(3):
        with pytest.raises(NotAuthenticated):
            identity.login("wrong", ABROAD, f"nobody{number}")
    assert forget_old(identity.connection, 100) == 0
    identity.pass_time(timedelta(hours=7).total_seconds())
    assert [forget_old(identity.connection, 3) for _ in range(3)] == [3, 1, 0]


def test_names_are_not_stored(identity: Identity) -> None:
    with pytest.raises(NotAuthenticated):
        identity.login("wrong", ABROAD, PASSWORD)
    subjects = scalars(identity.connection, "SELECT subject FROM login_failures ORDER BY 1")
    assert [subject.partition(":")[0] for subject in subjects] == ["name", "network"]
    assert PASSWORD not in repr((subjects, identity.audit.records))


def test_an_attempt_that_waits_is_recorded_once_a_second(identity: Identity) -> None:
    at_once(20, lambda: identity.login("wrong", ABROAD))
    delayed = [each for each in identity.audit.records if each.details.get("reason") == "delay"]
    assert len(delayed) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "network:192.0.2.7"),
        ("::ffff:192.0.2.7", "network:192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "network:2001:db8:1:2::/64"),
        ("", "network:unknown"),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


# Passwords and one-time tokens ------------------------------------------------------------------------------------


def me(identity: Identity) -> Principal:
    owner = Principal.owner()
    return Principal(identity.user, "ann", "viewer", owner.scope)


def test_a_new_password_ends_all_sessions(identity: Identity) -> None:
    tokens = identity.login()
    version = identity.tokens.verify(tokens.access_token).version
    with pytest.raises(NotAuthenticated):
        identity.changes.change(me(identity), "wrong", "another long password", HOME)
    with pytest.raises(ConfigError, match="at least 12"):
        identity.changes.change(me(identity), PASSWORD, "short", HOME)
    identity.changes.change(me(identity), PASSWORD, "another long password", HOME)
    with pytest.raises(NotAuthenticated):
        identity.sessions.refresh(tokens.refresh_token, HOME)
    assert scalar(identity.connection, "SELECT version FROM users") > version
    with pytest.raises(NotAuthenticated):
        identity.login()
    assert identity.login("another long password")
    [(_, principal, details)] = identity.audited("user.password")
    assert principal == f"user:{identity.user}"
    assert details == {"by": "old password", "ended_sessions": 1}


def test_a_one_time_token_sets_a_password_once(identity: Identity) -> None:
    old = one_time_tokens.issue(identity.connection, "password", identity.user)
    token = one_time_tokens.issue(identity.connection, "password", identity.user)
    with pytest.raises(NotAuthenticated):
        identity.changes.redeem(old, "another long password", HOME)
    with pytest.raises(ConfigError):
        identity.changes.redeem(token, "short", HOME)
    results = at_once(4, lambda: identity.changes.redeem(token, "another long password", HOME))
    assert refused(results) == 3
    assert identity.login("another long password")


def test_a_one_time_token_expires_and_serves_one_purpose(identity: Identity) -> None:
    token = one_time_tokens.issue(identity.connection, "password", identity.user)
    for wrong in (token.replace("password", "init"), token[:-1], "", "x" * 200):
        with pytest.raises(NotAuthenticated):
            identity.changes.init(wrong, "root@example.com", "root", "another long password", HOME)
    identity.pass_time(timedelta(hours=24).total_seconds() + 1)
    with pytest.raises(NotAuthenticated):
        identity.changes.redeem(token, "another long password", HOME)


def test_the_first_super_admin_is_made_once(identity: Identity) -> None:
    token = one_time_tokens.issue(identity.connection, "init")
    numbers = iter(range(100))
    results = at_once(
        8,
        lambda: identity.changes.init(
            token, f"root{(number := next(numbers))}@example.com", f"root{number}", "another long password", HOME
        ),
    )  # fmt: skip
    assert refused(results) == 7
    assert scalar(identity.connection, "SELECT count(*) FROM users WHERE role = 'super_admin'") == 1
    with pytest.raises(Conflict, match="There is a super_admin already"):
        one_time_tokens.issue(identity.connection, "init")
    assert len(identity.audited("auth.init")) == 1


def test_two_tokens_make_one_super_admin(identity: Identity) -> None:
    """Two tokens exist only if two were issued at the same moment."""
    tokens = [one_time_tokens.issue(identity.connection, "init") for _ in range(2)]
    identity.connection.execute(
        """INSERT INTO one_time_tokens (token_hash, purpose, expires_at)
           SELECT sha256(%s::bytea), 'init', now() + interval '1 hour'""",
        [tokens[0].encode()],
    )
    waiting = iter(tokens)
    numbers = iter(range(100))

    def init() -> object:
        number = next(numbers)
        return identity.changes.init(
            next(waiting), f"r{number}@example.com", f"r{number}", "another long password", HOME
        )

    results = at_once(2, init)
    assert refused(results, Conflict) == 1
    assert scalar(identity.connection, "SELECT count(*) FROM users WHERE role = 'super_admin'") == 1


def test_the_token_of_the_first_super_admin_expires_after_an_hour(identity: Identity) -> None:
    token = one_time_tokens.issue(identity.connection, "init")
    identity.pass_time(3601)
    with pytest.raises(NotAuthenticated):
        identity.changes.init(token, "root@example.com", "root", "another long password", HOME)


# The ring of signing keys -----------------------------------------------------------------------------------------


def test_processes_that_find_no_key_make_one(identity: Identity) -> None:
    rings = iter([KeyRing(identity.connections, SECRET) for _ in range(8)])
    kids = at_once(8, lambda: next(rings).signer().kid)
    assert len(set(kids)) == 1
    assert scalar(identity.connection, "SELECT count(*) FROM signing_keys") == 1


def test_a_key_that_is_replaced_still_verifies_until_its_tokens_have_expired(
    identity: Identity,
) -> None:
    token = identity.login().access_token
    other = AccessTokens(KeyRing(identity.connections, SECRET))
    assert other.verify(token)
    kid = rotate(identity.connection, SECRET, KeyTimes(), "owner")
    identity.ring._read_at = float("-inf")
    new = identity.login().access_token
    assert new.startswith(token_header(kid))
    assert other.verify(new), "a process that has not seen the key reads the ring again"
    assert KeyRing(identity.connections, SECRET).verifier(token.partition(".")[0])
    identity.pass_time(timedelta(minutes=12).total_seconds())
    assert not KeyRing(identity.connections, SECRET).verifier(token.partition(".")[0])
    assert [row[1] for row in identity.audited("token.rotate")] == ["system", "owner"]


def test_a_stolen_key_is_refused_at_once(identity: Identity) -> None:
    token = identity.login().access_token
    rotate(identity.connection, SECRET, KeyTimes(), "owner", revoke=True)
    identity.ring._read_at = float("-inf")
    with pytest.raises(NotAuthenticated):
        identity.tokens.verify(token)
    assert identity.tokens.verify(identity.login().access_token)


def test_a_key_signs_for_its_time_only(identity: Identity) -> None:
    first = identity.ring.signer().kid
    identity.pass_time(timedelta(days=30).total_seconds())
    ring = KeyRing(identity.connections, SECRET)
    assert ring.signer().kid != first
    assert {row.kid for row in ring.ring().rows} > {first}, "its last tokens live"


def test_unknown_keys_cost_one_query_a_second(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(identity.connections, SECRET)
    ring.signer()
    reads = []
    read = ring._read
    monkeypatch.setattr(ring, "_read", lambda: reads.append(1) or read())
    for number in range(100):
        assert ring.verifier(token_header(f"{number:043}")) is None
    assert len(reads) == 1
    assert ring.verifier("bm9uZQ") is None


def test_a_key_that_the_secret_does_not_decrypt_signs_nothing_and_still_verifies(
    identity: Identity,
) -> None:
    token = identity.login().access_token
    other = [KeyRing(identity.connections, SecretKey((b"x" * 32,))) for _ in range(2)]
    new = AccessTokens(other[0]).issue(identity.user, 1, uuid.uuid4())
    assert other[1].signer().kid == other[0].signer().kid, "one for all with this secret"
    assert new.partition(".")[0] != token.partition(".")[0]
    assert AccessTokens(other[0]).verify(token)
    assert identity.tokens.verify(new)
    assert identity.login().access_token.partition(".")[0] == token.partition(".")[0]
