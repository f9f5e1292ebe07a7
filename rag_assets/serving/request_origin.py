"""What the audit records of a request that changes something."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from rag_assets.identity.changes import Origin


def origin_of(request: Request) -> Origin:
    return Origin(request.state.request_id, request.state.address)


async def _origin(request: Request) -> Origin:
    # Not a plain function: FastAPI would call it in a thread.
    return origin_of(request)


#: The parameter of a route that gets it.
OriginDependency = Annotated[Origin, Depends(_origin)]
