"""One service for a module, on the session's stores: three sources of two accounts, and a user of each role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import LiveService, live_service
from tests.support.tenants import Tenants, tenants
from tests.support.world import World, empty_world


@pytest.fixture(scope="module")
def module_world(
    home: Path, postgres_url: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("serving")
    with empty_world(home, postgres_url, milvus_uri, folder) as world:
        yield world


@pytest.fixture(scope="module")
def people(module_world: World) -> Tenants:
    return tenants(module_world)


@pytest.fixture(scope="module")
def live(module_world: World, people: Tenants) -> Iterator[LiveService]:
    with live_service(
        module_world, stranger_requests_per_minute=100_000, user_requests_per_minute=100_000
    ) as live:
        yield live
