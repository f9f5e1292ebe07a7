"""Failed requests to Milvus as errors of ours: the reason, the setting that is wrong, and the remedy.

What only the user can fix (a token, a right, a database, http for https) is a ConfigError, so that nothing tries it
again. Decided by the codes of Milvus and of gRPC, not by their texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc

from resources.errors import ConfigError, RagError, StoreUnavailable
from resources.milvus.driver import MilvusException, common_pb2
from resources.tls_probe import certificate_problem, speaks_tls
from resources.urls import redact, without_secrets

#: Codes of Milvus from 2.3 on: internal/…/merr. Older ones are in `compatible_code`.
_NOT_AUTHENTICATED, _NOT_PERMITTED = 1400, 1401
_NO_DATABASE = 800

#: The action of the first request of a client.
CONNECT = "connect"


def failure(error: Exception, action: str, uri: str, token: str, ca_file: str = "") -> RagError:
    """Return the error of a request. `action` continues "Milvus could not …". Waiting may help unless it is a
    ConfigError."""
    status, reason = _status(error), redact(_reason(error), uri)
    server = f"Milvus at {without_secrets(uri)}"
    code, old_code = getattr(error, "code", None), getattr(error, "compatible_code", None)
    if status == grpc.StatusCode.UNAUTHENTICATED or code == _NOT_AUTHENTICATED:
        found = "found another one" if token else "found none"
        return ConfigError(
            f"{server} does not accept RAG_MILVUS_TOKEN: expected user:password of one of its users, or an API key; "
            f"{found}. Correct it in the environment or in settings.env."
        )
    if (
        status == grpc.StatusCode.PERMISSION_DENIED
        or code == _NOT_PERMITTED
        or old_code == common_pb2.PermissionDenied
    ):
        user = token.partition(":")[0] if ":" in token else "of RAG_MILVUS_TOKEN"
        return ConfigError(
            f"{server} denies user {user} to {action}: {reason}. Grant the user a role that may create, drop, load, "
            "read and write collections, such as admin, or set RAG_MILVUS_TOKEN to another user."
        )
    if code == _NO_DATABASE:
        return ConfigError(
            f"{server} has no such database: {reason}. Create it, or name another one: RAG_MILVUS_URI is "
            "http://host:port/database."
        )
    if action != CONNECT:
        return StoreUnavailable(f"{server} could not {action}: {reason}")
    return _not_connected(server, uri, reason, ca_file)


def _not_connected(server: str, uri: str, reason: str, ca_file: str) -> RagError:
    parts = urlsplit(uri)
    secure = parts.scheme == "https"
    # gRPC reports both as a server that is not available.
    host, port = parts.hostname or "", parts.port or (443 if secure else 19530)
    tls = speaks_tls(host, port)
    if tls is not None and tls != secure:
        spoken, scheme = ("TLS", "https") if tls else ("no TLS", "http")
        return ConfigError(
            f"{server} does not answer: the port speaks {spoken}. Set RAG_MILVUS_URI to {scheme}://"
            f"{parts.netloc.rpartition('@')[2]}."
        )
    if tls and (problem := certificate_problem(host, port, ca_file)):
        return ConfigError(
            f"The certificate of {server} cannot be verified: {problem}. Name the file of its authority in "
            "RAG_MILVUS_CA, and the host in RAG_MILVUS_URI by the certificate's name."
        )
    return StoreUnavailable(
        f"{server} does not answer: {reason}. Check RAG_MILVUS_URI; restart the embedded one with: rag down; rag up"
    )


def _status(error: BaseException) -> grpc.StatusCode | None:
    """Return gRPC's status of the error, or of the one that pymilvus wrapped."""
    for cause in _causes(error):
        # gRPC's errors have it as a method, some of pymilvus's as their code.
        code = getattr(cause, "code", None)
        if isinstance(cause, grpc.RpcError) and callable(code):
            code = code()
        if isinstance(code, grpc.StatusCode):
            return code
    return None


def _reason(error: BaseException) -> str:
    """Return the server's words as part of a sentence, without gRPC's traces."""
    words = error.message if isinstance(error, MilvusException) else str(error)
    for cause in _causes(error):
        details = getattr(cause, "details", None)
        if isinstance(cause, grpc.RpcError) and callable(details):
            words = details() or words
    return " ".join(str(words).split()).rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes. pymilvus raises errors from themselves."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
