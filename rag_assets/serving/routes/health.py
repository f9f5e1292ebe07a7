"""Whether the service lives, whether it can answer, and what it is. For strangers too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Response
from pydantic import BaseModel

from rag_assets.pipeline.principal import Principal
from rag_assets.serving.authorization import requires
from rag_assets.serving.routing import new_router
from rag_assets.serving.service import ServiceDependency

router = new_router()

Stranger = Annotated[Principal | None, requires("public")]
#: Probes that were refused by a limit would end a process that works.
Probe = Annotated[Principal | None, requires("public", cost=0)]


class Live(BaseModel):
    status: str = "alive"


class Ready(BaseModel):
    """`parts` and `notes`: only for those who are authenticated. `status`: ready or unready."""

    status: str
    parts: Mapping[str, str] | None = None
    notes: Mapping[str, str] | None = None


class Version(BaseModel):
    name: str = "rag-assets"
    version: str


@router.get("/livez", summary="Whether the process lives")
async def livez(
    caller: Annotated[None, requires("public", cost=0, reads_credentials=False)],
) -> Live:
    """Return always, as long as the process can."""
    return Live()


@router.get(
    "/readyz",
    summary="Whether searches can be answered",
    responses={503: {"model": Ready, "description": "Not ready."}},
)
async def readyz(caller: Probe, service: ServiceDependency, response: Response) -> Ready:
    """Return whether PostgreSQL answers and the collections are loaded; not older than two seconds."""
    found = await service.look()
    response.status_code = 200 if found.is_ready else 503
    status = "ready" if found.is_ready else "unready"
    if caller is None:
        return Ready(status=status)
    # Not a part: without the server of the limits, each process limits by itself.
    notes = {**found.notes, **({"limits": service.limits.away} if service.limits.away else {})}
    return Ready(status=status, parts=found.parts, notes=notes)


@router.get("/version", summary="The version of the service")
async def version(caller: Stranger, service: ServiceDependency) -> Version:
    """Return the version of this project."""
    return Version(version=service.version)
