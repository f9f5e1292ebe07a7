"""Failed requests to Milvus: codes become the setting that is wrong; and what a server of a version can do."""

from __future__ import annotations

import grpc
import pytest
from pymilvus.exceptions import MilvusException

from rag_assets.pipeline.vectors import Kind
from resources.errors import ConfigError, StoreUnavailable
from resources.milvus.capabilities import Capabilities
from resources.milvus.failures import CONNECT, failure

URI = "http://127.0.0.1:1"


class RpcError(grpc.RpcError):
    """As gRPC raises it."""

    def __init__(self, status: grpc.StatusCode, details: str) -> None:
        super().__init__("<_InactiveRpcError of RPC that terminated with: debug_error_string = x>")
        self.status, self.text = status, details

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str:
        return self.text


def wrapped(error: Exception) -> MilvusException:
    """As pymilvus raises the errors of a connection: from another one, and some from themselves."""
    outer = MilvusException(
        2, "Fail connecting to server, illegal connection params or server unavailable"
    )
    outer.__cause__, error.__cause__ = error, error
    return outer


@pytest.mark.parametrize("token", ["", "root:wrong", "an-api-key"])
def test_a_wrong_token_is_named_and_never_shown(token: str) -> None:
    rpc = RpcError(
        grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check api key is correct"
    )
    for error in (rpc, wrapped(rpc), MilvusException(1400, "not authenticated")):
        known = failure(error, CONNECT, URI, token)
        assert isinstance(known, ConfigError) and "RAG_MILVUS_TOKEN" in str(known)
        assert not token or token not in str(known)


def test_a_missing_right_names_the_user_and_the_action() -> None:
    denied = "PrivilegeUpsert: permission deny to plain"
    for error in (
        RpcError(grpc.StatusCode.PERMISSION_DENIED, denied),
        MilvusException(1401, denied),
    ):
        known = failure(error, "upsert 2 rows into a", URI, "plain:hush")
        assert isinstance(known, ConfigError)
        assert f"denies user plain to upsert 2 rows into a: {denied}. Grant" in str(known)
        assert "hush" not in str(known) and "RPC" not in str(known)


def test_a_missing_database_is_named() -> None:
    known = failure(MilvusException(800, "database not found"), CONNECT, URI + "/x", "")
    assert isinstance(known, ConfigError) and "RAG_MILVUS_URI" in str(known)


def test_a_request_that_may_succeed_later_is_tried_again() -> None:
    rpc = RpcError(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
    known = failure(wrapped(rpc), "search a", URI, "")
    assert isinstance(known, StoreUnavailable)
    assert str(known) == f"Milvus at {URI} could not search a: failed to connect to all addresses"


# Versions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "kinds"),
    [
        ("v2.3.5-lite", {"dense", "multi"}),
        ("2.3.21", {"dense", "multi"}),
        ("v2.2.16", set()),
        ("v2.4.0-rc.1", {"dense", "sparse", "multi"}),
        ("2.6.4", {"dense", "sparse", "multi"}),
        ("3.0.1", {"dense", "sparse", "multi"}),
        ("milvus_lite-3.2.2", {"dense", "sparse", "multi"}),
        (
            "Zilliz Cloud Vector Database(Compatible with Milvus 2.5.x)",
            {"dense", "sparse", "multi"},
        ),
        ("master-gitabcdef", {"dense", "sparse", "multi"}),
    ],
)
def test_a_version_tells_which_vectors_a_server_can_index(version: str, kinds: set[Kind]) -> None:
    capabilities = Capabilities(version)
    assert {kind for kind in ("dense", "sparse", "multi") if capabilities.has(kind)} == kinds
    for kind in ("dense", "sparse", "multi"):
        assert bool(capabilities.problem(kind)) == (kind not in kinds)


def test_the_setting_without_the_missing_kinds_is_named() -> None:
    old = Capabilities("v2.3.5-lite")
    with pytest.raises(ConfigError, match=r"no sparse vectors, .* RAG_VECTORS=dense,multi,"):
        old.require_kinds(("dense", "sparse", "multi"))
    with pytest.raises(ConfigError, match="RAG_VECTORS=dense,"):
        old.require_index("sparse", "SPARSE_INVERTED_INDEX")
    old.require_kinds(("dense",))
    old.require_index("dense", "HNSW")
    with pytest.raises(ConfigError, match="has no HNSW_SQ"):
        old.require_index("dense", "HNSW_SQ")
    with pytest.raises(ConfigError, match="has no DISKANN"):
        Capabilities("milvus_lite-3.2.2").require_index("dense", "DISKANN")
