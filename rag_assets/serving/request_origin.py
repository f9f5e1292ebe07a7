"""What the audit records of a request that changes something."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from rag_assets.identity.changes import Origin


async def origin_of(request: Request) -> Origin:
    # Not a plain function: FastAPI would call it in a thread.
    return Origin(request.state.request_id, request.state.address)


#: The parameter of a route that gets it.
OriginDependency = Annotated[Origin, Depends(origin_of)]
