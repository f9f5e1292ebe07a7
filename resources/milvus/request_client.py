"""A client of pymilvus that also sends the requests which `upsert_request` and `search_request` encode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rag_assets.pipeline.vectors import Kind
from resources.milvus.driver import (
    MilvusClient,
    SearchRequest,
    SearchResultData,
    UpsertRequest,
    check_status,
    retry_on_rpc_failure,
)
from resources.milvus.search_request import Nearest, read_nearest, search_request


class RequestClient(MilvusClient):
    """A client that also sends encoded requests."""

    def upsert_request(
        self, name: str, request: UpsertRequest, *, timeout: float
    ) -> Mapping[str, int]:
        """Return `upsert_count`, like `upsert`."""
        # pymilvus declares the method as coroutine too.
        connection: Any = self._get_connection()
        answer = connection.upsert(
            name,
            [],
            upsert_param=request,
            # Without a schema pymilvus asks the server for it.
            schema={"fields": []},
            timeout=timeout,
            context=self._generate_call_context(),
        )
        return {"upsert_count": answer.upsert_count}

    def nearest(
        self,
        name: str,
        kind: Kind,
        queries: Sequence[bytes],
        *,
        limit: int,
        params: Mapping[str, object],
        filter: str,
        consistency: str,
        timeout: float,
    ) -> list[Nearest]:
        """Return the ids and scores of the nearest rows to each query, those that `search` returns."""
        connection: Any = self._get_connection()
        context = self._generate_call_context()
        request = search_request(
            name,
            kind,
            queries,
            limit=limit,
            params=params,
            filter=filter,
            consistency=consistency,
            server=connection.server_address,
            database=context.get_db_name(),
        )
        # As above.
        answer: Any = _send(connection, request, timeout=timeout, context=context)
        return read_nearest(answer)


@retry_on_rpc_failure()
def _send(
    connection: Any, request: SearchRequest, *, timeout: float, context: Any
) -> SearchResultData:
    """Send the request as `GrpcHandler.search` of pymilvus does, without an object of each hit."""
    answer = connection._stub.Search(request, timeout=timeout, metadata=context.to_grpc_metadata())
    check_status(answer.status)
    return answer.results
