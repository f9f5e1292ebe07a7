"""Real stores for tests: one embedded PostgreSQL and one Milvus Lite per session, emptied between tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import tests.support.migrations_read_once
import tests.support.short_waits  # noqa: F401
from resources.embedded.stack import start_milvus, start_postgres, stop
from resources.postgres.schema import migrate
from tests.support.folders import servers_folder
from tests.support.servers import S3, Web, s3_server, web_server
from tests.support.world import World, empty_world

# No deadline: the time of an example depends on how busy the machine is. `make test` tries the same few examples each
# time, `make soak` (--hypothesis-profile=exploring) many others.
hypothesis.settings.register_profile("exploring", deadline=None, max_examples=1000)
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("repeatable")

os.environ["HF_HUB_OFFLINE"] = "1"

#: Third-party corpora, beside the project. Tests that use them are skipped if they are missing.
SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_finish() -> None:
    # Imported objects stay: the collector must not scan half a million of them again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    with servers_folder("rag-tests-") as folder:
        yield folder
        stop(folder)


@pytest.fixture(scope="session")
def postgres_url(home: Path) -> str:
    url = start_postgres(home).url
    migrate(url)
    return url


@pytest.fixture(scope="session")
def milvus_uri(home: Path) -> str:
    return start_milvus(home).uri


@pytest.fixture
def world(home: Path, postgres_url: str, milvus_uri: str, tmp_path: Path) -> Iterator[World]:
    with empty_world(home, postgres_url, milvus_uri, tmp_path) as world:
        yield world


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as web:
        yield web


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[S3]:
    with s3_server() as s3:
        yield s3


@pytest.fixture
def s3(s3_endpoint: S3) -> S3:
    """An S3-compatible server with one empty bucket, `bucket`."""
    s3_endpoint.files.rm("bucket/*", recursive=True) if s3_endpoint.files.ls("bucket") else None
    return s3_endpoint


@pytest.fixture
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the third-party corpora are not at {SHARED}")
    return SHARED
