"""Two accounts with a source each, and users: one of each role in the first account, each with an API key."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from rag_assets.deployment import Deployment
from rag_assets.identity import api_keys, grants, users
from rag_assets.identity.api_keys import KeySpec
from rag_assets.identity.grants import Grants
from rag_assets.identity.users import UserSpec
from rag_assets.pipeline.permissions import ROLES, Role, role_permissions
from rag_assets.pipeline.principal import Principal
from tests.support.world import World

OWNER = Principal.owner()
#: A text that only the foreign account has.
CANARY = "canary of the foreign account"


@dataclass
class Tenants:
    """`keys`, `emails` and `ids` by role; `own` and `foreign`: the id of a document of each account."""

    own: str
    foreign: str
    keys: dict[Role, str] = field(default_factory=dict)
    emails: dict[Role, str] = field(default_factory=dict)
    ids: dict[Role, uuid.UUID] = field(default_factory=dict)


def tenants(world: World) -> Tenants:
    """Index a source of each account, and add the users."""
    connection, secret = world.connection, Deployment(world.settings).secret
    for account, text in (("own", "nine"), ("foreign", CANARY)):
        world.write({"hours.md": f"# Hours\n\nThe observatory opens at nine. {text}"}, account)
        source = world.add(account)
        world.fill(account)
        grants.set_account(connection, OWNER, source.id, account)
    world.publish()
    world.store.wait_for_flush()
    documents = [
        world.one(
            "SELECT d.id FROM documents d JOIN sources s ON s.id = d.source_uuid WHERE s.name = %s",
            source,
        )
        for source in ("own", "foreign")
    ]
    people = Tenants(str(documents[0]), str(documents[1]))
    for role in ROLES:
        people.emails[role] = f"{role}@own.example"
        user = users.add(
            connection,
            OWNER,
            UserSpec(people.emails[role], f"the {role}", role),
            Grants(accounts=("own",)),
        )
        people.ids[role] = user.id
        spec = KeySpec("a key", sorted(role_permissions(role)), rate_limit_per_minute=100_000)
        people.keys[role] = api_keys.add(connection, OWNER, secret, user.id, spec).text
    return people
