"""The growing delay of attempts to log in, by account and by network. Keys and refresh tokens are never delayed.

An attempt is counted before its password is verified, so of many at the same time only the free ones are verified; a
right one is taken back. A network that an account has logged in from lately need not wait for the guesses that others
make at that account, and an account need not wait for those that its own network makes at others: such an attempt
waits only if both are delayed.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from resources.errors import LimitExceeded
from resources.postgres.connection_pool import Connections
from resources.postgres.identity import login_failures as table
from resources.postgres.identity.login_failures import Account
from resources.secret_key import SecretKey

#: Attempts without a delay: of an account or a name, and of a network, which many people may share.
FREE_OF_ACCOUNT, FREE_OF_NETWORK = 2, 20
#: Seconds between two deletions of forgotten counts by one process, and the maximum of counts in one.
CLEANING, CLEANED = 60.0, 10_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that is admitted, and counted for these. `account`: None: there is no such user."""

    account: Account | None
    counted_account: bool
    subjects: tuple[str, ...]


class LoginDelays:
    """Admits attempts. All methods block. Safe in threads."""

    def __init__(self, connections: Connections, secret: SecretKey) -> None:
        self._connections, self._secret = connections, secret
        self._cleaning = threading.Lock()
        self._cleaned_at = float("-inf")

    def admit(self, account: Account | None, name: str, address: str) -> Attempt:
        """Count an attempt. Raises LimitExceeded if it has to wait: alike for users and for names of none."""
        self._clean()
        network = network_of(address)
        # Each statement commits by itself: none waits for another row while it has locked one.
        with self._connections.connection() as connection:
            if account is not None and account.is_known_there:
                if not table.count_for_account(connection, account.id, FREE_OF_ACCOUNT):
                    return Attempt(account, True, ())
                if wait := table.count_for_subject(connection, network, FREE_OF_NETWORK):
                    raise _later(wait)
                return Attempt(account, False, (network,))
            if wait := table.count_for_subject(connection, network, FREE_OF_NETWORK):
                raise _later(wait)
            subject = "" if account else self._subject(name)
            wait = (
                table.count_for_account(connection, account.id, FREE_OF_ACCOUNT)
                if account
                else table.count_for_subject(connection, subject, FREE_OF_ACCOUNT)
            )
            if wait:
                table.uncount_for_subject(connection, network)
                raise _later(wait)
            subjects = (network,) if account else (network, subject)
            return Attempt(account, account is not None, subjects)

    def take_back(self, attempt: Attempt) -> None:
        """Take back an attempt whose password was right, or was not verified. Other attempts stay counted."""
        with self._connections.connection() as connection:
            if attempt.counted_account and attempt.account:
                table.uncount_for_account(connection, attempt.account.id)
            for subject in attempt.subjects:
                table.uncount_for_subject(connection, subject)

    def _subject(self, name: str) -> str:
        # Alike for users and for names of none: addresses are equal in any case, usernames are not.
        name = name.lower() if "@" in name else name
        # Not the name itself: people type passwords there.
        digest = self._secret.hmac("login name", name.encode("utf-8", "surrogatepass"))
        return f"name:{digest.hex()}"

    def _clean(self) -> None:
        if not self._cleaning.acquire(blocking=False):
            return
        try:
            if time.monotonic() - self._cleaned_at >= CLEANING:
                self._cleaned_at = time.monotonic()
                with self._connections.connection() as connection:
                    table.forget_old(connection, CLEANED)
        finally:
            self._cleaning.release()


def network_of(address: str) -> str:
    """Return the network whose attempts are counted together: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return "network:unknown"
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if isinstance(parsed, IPv6Address):
        return f"network:{IPv6Network((int(parsed), 64), strict=False)}"
    return f"network:{parsed}"


def _later(seconds: float) -> LimitExceeded:
    return LimitExceeded(
        "Too many attempts to log in from here or with this name. Try again later.", seconds
    )
