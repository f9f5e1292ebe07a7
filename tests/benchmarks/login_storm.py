"""Logins beside searches: `python -m tests.benchmarks.login_storm CORPUS [--logins 200] [--rate 20] [--json FILE]`.

Searches at a steady rate, far below what the machine can do, alone and while many users log in at once, each from an
address of its own. Milliseconds of the searches, statuses of the logins: no answer may be a 500.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import requests

from tests.benchmarks.rag_command import RAG, fresh_home, rag
from tests.benchmarks.service_cost import questions, service

PASSWORD = "a sentence that nobody guesses"
USERS = 20


def searches(
    url: str, key: str, texts: Sequence[str], rate: float, until: threading.Event
) -> list[float]:
    """Search at a rate a second until the event. Returns the milliseconds of each, waiting included."""
    taken: list[float] = []
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"
    number, due = 0, time.perf_counter()
    while not until.is_set():
        due += 1 / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        answer = session.post(f"{url}/v1/search", json={"query": texts[number % len(texts)]})
        answer.raise_for_status()
        taken.append((time.perf_counter() - due) * 1000)
        number += 1
    return taken


_SCRIPT = """
local asked, sent = 0, 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
delay = function()
  asked = asked + 1
  return asked <= %d and 0 or 600000
end
request = function()
  sent = sent + 1
  wrk.headers["X-Forwarded-For"] = "10.0." .. math.floor(sent / 250) .. "." .. sent %% 250
  return wrk.format(nil, nil, nil, '{"name": "user' .. sent %% %d .. '", "password": "%s"}')
end
response = function(status) io.write("STATUS " .. status .. "\\n") end
"""


def storm(url: str, logins: int, seconds: float) -> Counter[str]:
    """Log in once over each of so many connections, at once. Returns status -> number. Outside of Python."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % (logins, USERS, PASSWORD))
        script.flush()
        command = ["wrk", "-t1", f"-c{logins}", f"-d{seconds:g}s", "--timeout", "60s"]
        output = subprocess.run(
            [*command, "-s", script.name, f"{url}/auth/login"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return Counter(re.findall(r"STATUS (\d+)", output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--logins", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    texts = questions(options.corpus)
    result: dict[str, object] = {}
    with fresh_home() as home:
        rag(
            home,
            "ingest",
            str(options.corpus),
            "--json",
            vectors="dense,sparse",
            embedder="lexical",
        )
        for number in range(USERS):
            command = [
                RAG,
                "users",
                "add",
                f"user{number}@example.com",
                "--username",
                f"user{number}",
            ]
            subprocess.run(
                [*command, "--role", "super_admin", "--password-stdin", "--quiet"],
                input=PASSWORD,
                text=True,
                env={**os.environ, "RAG_HOME": str(home)},
                check=True,
            )
        made = rag(
            home,
            "keys",
            "add",
            "--user",
            "user0",
            "--name",
            "load",
            "--rate-limit",
            "1000000",
            "--json",
        )
        key = made.json()["key"]
        # Behind a proxy each login can name an address of its own.
        with service(home, "--behind-proxy") as url, ThreadPoolExecutor(1) as pool:
            for _ in range(2):
                for text in texts[:50]:
                    requests.post(
                        f"{url}/v1/search",
                        json={"query": text},
                        headers={"Authorization": f"Bearer {key}"},
                        timeout=60,
                    )
            for name in ("alone", "beside logins", "alone again"):
                ended = threading.Event()
                found = pool.submit(searches, url, key, texts[:50], options.rate, ended)
                if name == "beside logins":
                    time.sleep(1)
                    result["logins"] = dict(storm(url, options.logins, 5))
                else:
                    time.sleep(options.seconds)
                ended.set()
                p50, p95, most = np.percentile(found.result(), [50, 95, 100])
                result[name] = {
                    "p50": round(p50, 1),
                    "p95": round(p95, 1),
                    "max": round(most, 1),
                    "searches": len(found.result()),
                }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
