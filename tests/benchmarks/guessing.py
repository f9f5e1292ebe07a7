"""Guesses of passwords and keys: `python -m tests.benchmarks.guessing [--guesses 10000] [--clients 16] [--unlimited]`.

A service behind a (made-up) proxy gets wrong passwords and wrong keys from one address and from many, as fast as the
clients can. Meanwhile a user logs in from home, where he has been before, and from a new address, refreshes a session
and uses a key. `--unlimited`: without the limits of requests a minute, so that only the delays of logins work.

An answer 401 to a login means that a password was verified; 429 and 503 mean that none was.
"""

from __future__ import annotations

import argparse
import random
import secrets
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import requests
from rich.console import Console
from rich.table import Table

from rag_assets.identity.api_key_format import new_key
from resources.embedded.stack import running
from tests.benchmarks.rag_command import ROOT, command, fresh_home, rag

PASSWORD = "correct horse battery"
HOME, NEW_PLACE, ATTACKER = "198.51.100.1", "198.51.100.99", "203.0.113.1"
#: Seconds between two refreshes of the user, and between two logins.
ROUND, LOGINS = 7.0, 7.0


@dataclass
class User:
    """What the user experiences: answers of each kind, and the longest time of one."""

    url: str
    key: str
    refresh_token: str = ""
    answers: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    session: requests.Session = field(default_factory=requests.Session)

    def send(
        self, kind: str, method: str, path: str, address: str, **options: Any
    ) -> requests.Response:
        headers = {"X-Forwarded-For": address, **options.pop("headers", {})}
        started = time.perf_counter()
        answer = self.session.request(
            method, self.url + path, headers=headers, timeout=60, **options
        )
        seconds = time.perf_counter() - started
        self.answers[f"{kind} {answer.status_code}"] += 1
        if answer.ok:
            self.slowest[kind] = max(seconds, self.slowest.get(kind, 0.0))
        return answer

    def login(self, kind: str, address: str) -> requests.Response:
        return self.send(
            kind, "POST", "/auth/login", address, json={"name": "ann", "password": PASSWORD}
        )

    def round(self) -> None:
        self.send("key", "GET", "/auth/me", HOME, headers={"Authorization": f"Bearer {self.key}"})
        answer = self.send(
            "refresh", "POST", "/auth/refresh", HOME, json={"refresh_token": self.refresh_token}
        )
        # At most ten a minute.
        if answer.ok:
            self.refresh_token = answer.json()["refresh_token"]

    def run(self, ended: threading.Event) -> None:
        again = at_home = 0.0
        while not ended.wait(ROUND):
            self.round()
            if time.monotonic() >= at_home:
                self.login("home", HOME)
                at_home = time.monotonic() + LOGINS
            if time.monotonic() >= again:
                answer = self.login("new place", NEW_PLACE)
                again = time.monotonic() + float(answer.headers.get("Retry-After", LOGINS))


@dataclass(frozen=True)
class Attack:
    """`guess`: the request of a number, as (address, path, body, headers)."""

    name: str
    guess: Callable[[int], tuple[str, str, dict[str, str] | None, dict[str, str]]]


def many(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def password_guess(name: str) -> dict[str, str]:
    return {"name": name, "password": secrets.token_hex(8)}


def wrong_key() -> dict[str, str]:
    return {"Authorization": f"Bearer {new_key().text}"}


ATTACKS = (
    Attack("one account, one address", lambda n: (ATTACKER, "/auth/login", password_guess("ann"), {})),
    Attack("one account, many addresses", lambda n: (many(n), "/auth/login", password_guess("ann"), {})),
    Attack("100 names, one address", lambda n: (ATTACKER, "/auth/login", password_guess(f"user{n % 100}"), {})),
    Attack("100 names, many addresses", lambda n: (many(n), "/auth/login", password_guess(f"user{n % 100}"), {})),
    Attack("keys, one address", lambda n: (ATTACKER, "/auth/me", None, wrong_key())),
    Attack("keys, many addresses", lambda n: (many(n), "/auth/me", None, wrong_key())),
)  # fmt: skip


def guess_all(url: str, attack: Attack, guesses: int, clients: int) -> tuple[Counter[str], float]:
    """Return answer -> number, and the seconds."""
    local = threading.local()

    def send(number: int) -> str:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        address, path, body, headers = attack.guess(number)
        answer = local.session.request(
            "POST" if body else "GET", url + path, json=body,
            headers={"X-Forwarded-For": address, **headers}, timeout=60,
        )  # fmt: skip
        if answer.status_code == 429:
            return "429 delay" if "attempts to log in" in answer.json()["detail"] else "429 limit"
        return str(answer.status_code)

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        answers = Counter(threads.map(send, range(guesses)))
    return answers, time.perf_counter() - started


@contextmanager
def served(home: Path, **settings: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv, environment = command(home, "serve", "--port", str(port), "--behind-proxy", **settings)
    process = subprocess.Popen(
        argv, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                requests.get(url + "/livez", timeout=1)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def user_of(home: Path, url: str, number: int) -> User:
    """Return a user with a key and a session from home. Those of an earlier attack are removed."""
    if number:
        rag(home, "users", "remove", "ann@example.com", "--yes")
        with psycopg.connect(running(home)["postgres"]) as connection:
            connection.execute("DELETE FROM login_failures")
    environment = command(home, "users")[1]
    argv = command(
        home, "users", "add", "ann@example.com", "--username", "ann", "--password-stdin"
    )[0]
    subprocess.run(
        argv, env=environment, input=PASSWORD, text=True, check=True, capture_output=True
    )
    key = rag(home, "keys", "add", "--user", "ann", "--name", "a key", "--json").json()["key"]
    user = User(url, key)
    user.refresh_token = user.login("first", HOME).json()["refresh_token"]
    return user


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--guesses", type=int, default=10_000)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--unlimited", action="store_true")
    options = arguments.parse_args()
    limit = {"stranger_requests_per_minute": "1000000"} if options.unlimited else {}
    table = Table(
        "attack", "s", "answers", "the user: answer × number", "slowest s", "wait after s"
    )
    with fresh_home() as home:
        rag(home, "up")
        for number, attack in enumerate(ATTACKS):
            # A new process: its limits have counted nothing.
            with served(home, **limit) as url:
                user = user_of(home, url, number)
                ended = threading.Event()
                thread = threading.Thread(target=user.run, args=(ended,))
                thread.start()
                answers, seconds = guess_all(url, attack, options.guesses, options.clients)
                ended.set()
                thread.join()
                last = user.login("after", f"198.51.100.{random.randint(100, 250)}")
            table.add_row(
                attack.name,
                f"{seconds:.0f}",
                ", ".join(f"{answer}: {count:,}" for answer, count in sorted(answers.items())),
                ", ".join(f"{kind} × {count}" for kind, count in sorted(user.answers.items())),
                ", ".join(f"{kind} {slowest:.2f}" for kind, slowest in user.slowest.items()),
                last.headers.get("Retry-After", "0"),
            )
            Console(width=190).print(table)


if __name__ == "__main__":
    main()
