"""Hashes of passwords: argon2id, in threads of their own with a bounded queue, so that searches never wait for logins.

A permit is given back by the thread that did the work, not by the request: a client that goes away frees nothing.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import Parameters, PasswordHasher, Type, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from rag_assets.identity.password_rules import is_too_long, normalized, password_problems
from resources.errors import ConfigError, Overloaded

T = TypeVar("T")

#: OWASP's parameters for argon2id. One hash takes 40 to 90 ms of a processor.
MEMORY_MIB, PASSES = 46, 1
#: The maximum of stored parameters: whoever can write the table must not make a login take all memory.
MAX_MEMORY_MIB, MAX_PASSES, MAX_LANES = 1024, 16, 16
#: Threads, and the maximum of passwords that wait for one.
THREADS, WAITING = 2, 16
#: Added to the niceness of these threads on Linux: a search that wants the processor has it first.
NICENESS = 10


class Passwords:
    """Hashes and verifies passwords. All methods that hash block; they raise Overloaded while the queue is full."""

    def __init__(
        self,
        memory_mib: float = MEMORY_MIB,
        passes: int = PASSES,
        *,
        threads: int = THREADS,
        waiting: int = WAITING,
    ) -> None:
        self._hasher = PasswordHasher(passes, round(memory_mib * 1024), 1, type=Type.ID)
        self._nobody = _hash_of_nobody(self._hasher)
        self._permits = threading.BoundedSemaphore(threads + waiting)
        self._executor = ThreadPoolExecutor(
            threads, thread_name_prefix="passwords", initializer=_yield_to_searches
        )

    def close(self) -> None:
        self._executor.shutdown()

    def hash(self, password: str) -> str:
        """Return the hash of a password. `new_hash` also checks the rules of new passwords."""
        return self._run(lambda: self._hasher.hash(_hashed_bytes(password)))

    def new_hash(self, password: str, *, email: str, username: str) -> str:
        """Return the hash of a new password of this user. Raises ConfigError that lists what is wrong with it."""
        if problems := password_problems(password, email=email, username=username):
            raise ConfigError("\n".join(problems))
        return self.hash(password)

    def verify(self, hashed: str | None, password: str) -> bool:
        """Return whether it is the password. A user without a hash, or no user (None), takes the same time."""
        if is_too_long(password):
            return False
        known = hashed is not None and _is_bounded(hashed)
        against = hashed if hashed is not None and known else self._nobody
        return self._run(lambda: self._matches(against, _hashed_bytes(password))) and known

    def needs_rehash(self, hashed: str) -> bool:
        """Return whether the hash was made with lower parameters than those of this object."""
        stored = _parameters(hashed)
        return stored is None or (
            stored.type != Type.ID
            or stored.memory_cost < self._hasher.memory_cost
            or stored.time_cost < self._hasher.time_cost
        )

    def _matches(self, hashed: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    def _run(self, function: Callable[[], T]) -> T:
        if not self._permits.acquire(blocking=False):
            raise Overloaded("Too many passwords are being checked. Try again in a second.", 1.0)

        def work() -> T:
            try:
                return function()
            finally:
                self._permits.release()

        try:
            future = self._executor.submit(work)
        except RuntimeError:
            self._permits.release()
            raise
        return future.result()


def _hashed_bytes(password: str) -> bytes:
    # JSON may contain a half of a surrogate pair, which no new password has.
    return normalized(password).encode("utf-8", "surrogatepass")


def _parameters(hashed: str) -> Parameters | None:
    try:
        return extract_parameters(hashed)
    except InvalidHashError:
        return None


def _is_bounded(hashed: str) -> bool:
    found = _parameters(hashed)
    return (
        found is not None
        and found.memory_cost <= MAX_MEMORY_MIB * 1024
        and found.time_cost <= MAX_PASSES
        and found.parallelism <= MAX_LANES
    )


def _hash_of_nobody(hasher: PasswordHasher) -> str:
    """Return a hash with these parameters that no password has: it takes as long to verify as any other."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (hasher.salt_len, hasher.hash_len)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"


def _yield_to_searches() -> None:
    if sys.platform == "linux":
        # Linux has a niceness a thread; elsewhere this would slow the whole process down.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
