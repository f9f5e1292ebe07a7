"""Two accounts with a source each, and users: one of each role in the first account, each with an API key."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from tests.support.world import World

#: A text that only the foreign account has.
CANARY = "the canary of the foreign account"


@dataclass
class Tenants:
    """`keys` and `emails` by role. `own`, `foreign`: a document of each account."""

    own: str
    foreign: str
    keys: dict[str, str] = field(default_factory=dict)
    emails: dict[str, str] = field(default_factory=dict)
    ids: dict[str, uuid.UUID] = field(default_factory=dict)


def tenants(world: World) -> Tenants:
    """Index two sources, and add the users."""
    world.write({"hours.md": "# Hours\n\nThe observatory opens at nine."}, "own")
    world.write({"hours.md": f"# Hours\n\nThe observatory opens at nine. {CANARY}"}, "foreign")
    for source in ("own", "foreign"):
        world.add(source)
        world.fill(source)
    world.store.wait_for_flush()
    return Tenants("", "")
