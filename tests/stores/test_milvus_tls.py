"""Ports that speak TLS, or do not, where RAG_MILVUS_URI says otherwise: gRPC calls both "unavailable"."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymilvus.exceptions import MilvusException

from resources.errors import ConfigError, StoreUnavailable
from resources.milvus.failures import CONNECT, failure
from resources.milvus.store import MilvusStore
from resources.tls_probe import speaks_tls


@contextmanager
def listening(context: ssl.SSLContext | None) -> Iterator[int]:
    """A server on loopback that takes one connection, with or without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                if context is None:
                    connection.recv(1)
                    return
                with context.wrap_socket(connection, server_side=True):
                    pass

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "milvus")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_a_port_with_the_other_scheme_is_named(tls: ssl.SSLContext) -> None:
    error = MilvusException(2, "Fail connecting to server")
    for scheme, context, advice in (("http", tls, "https"), ("https", None, "http")):
        with listening(context) as port:
            known = failure(error, CONNECT, f"{scheme}://127.0.0.1:{port}", "")
        assert isinstance(known, ConfigError)
        assert f"Set RAG_MILVUS_URI to {advice}://127.0.0.1:{port}." in str(known)


def test_a_port_that_nobody_listens_to_may_answer_later() -> None:
    assert speaks_tls("127.0.0.1", 1) is None
    known = failure(MilvusException(2, "refused"), CONNECT, "http://127.0.0.1:1", "")
    assert isinstance(known, StoreUnavailable) and "does not answer: refused" in str(known)


def test_no_error_of_milvus_shows_the_password_in_its_uri() -> None:
    for uri in ("http://reader:hush@127.0.0.1:9", "nonsense://reader:hush@milvus"):
        with pytest.raises(StoreUnavailable, match=r"//reader:\*\*\*@") as caught:
            MilvusStore(uri, timeout=1).collection_names()
        assert "hush" not in str(caught.value)
