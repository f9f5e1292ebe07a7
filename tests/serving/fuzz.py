"""Requests that the schema allows and forbids: `python -m tests.serving.fuzz [--minutes 15] [--url URL --key KEY]`.

Schemathesis makes them from `/openapi.json`. A server error, an answer that the schema does not name, or one that does
not have its form, fails. Without a URL a service is started on stores of its own, with a key that may do everything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from resources.embedded.stack import start_milvus, start_postgres, stop
from resources.postgres.schema import migrate
from tests.support.folders import servers_folder
from tests.support.service import live_service
from tests.support.tenants import tenants
from tests.support.world import empty_world

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "ignored_auth",
)
#: Its answer is as long as the audit.
_EXCLUDED = "/v1/audit/export"


def fuzz(url: str, key: str, seconds: float) -> int:
    """Run schemathesis for some time. Returns its exit code."""
    return subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json"),
            *("--header", f"Authorization: Bearer {key}", "--checks", ",".join(CHECKS)),
            *("--mode", "all", "--max-examples", "1000", "--max-time", f"{seconds:.0f}"),
            *("--continue-on-failure", "--exclude-path", _EXCLUDED, "--warnings", "off"),
        ],
        check=False,
    ).returncode


@contextmanager
def own_service() -> Iterator[tuple[str, str]]:
    """Yield the URL of a service and a key of a super_admin."""
    with ExitStack() as closing:
        home = closing.enter_context(servers_folder("rag-fuzz-"))
        closing.callback(stop, home)
        url = start_postgres(home).url
        migrate(url)
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        world = closing.enter_context(empty_world(home, url, start_milvus(home).uri, folder))
        people = tenants(world)
        live = closing.enter_context(
            live_service(
                world,
                user_requests_per_minute=1_000_000,
                stranger_requests_per_minute=1_000_000,
            )
        )
        yield live.url, people.keys["super_admin"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--url")
    parser.add_argument("--key", default="")
    options = parser.parse_args()
    if options.url:
        sys.exit(fuzz(options.url, options.key, options.minutes * 60))
    with own_service() as (url, key):
        sys.exit(fuzz(url, key, options.minutes * 60))


if __name__ == "__main__":
    main()
