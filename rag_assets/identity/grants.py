"""Use-cases of grants: which accounts, chat bots and sources a user sees, and which account owns a source."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rag_assets.identity.changes import COMMAND_LINE, Origin, record
from rag_assets.identity.reach import changing_user
from rag_assets.pipeline.principal import Principal, Target, in_scope
from resources.errors import ConfigError, NotFound
from resources.partition_keys import account_name
from resources.postgres.connection import Connection
from resources.postgres.identity import grants as table
from resources.postgres.identity.grants import Grant
from resources.postgres.identity.users import UserRow, read_user

#: Characters of a chat bot's name, at most: the width of its column.
MAX_CHAT_BOT = 100


@dataclass(frozen=True, slots=True)
class Grants:
    """Names of accounts, chat bots (ACCOUNT/NAME) and sources."""

    accounts: tuple[str, ...] = ()
    chat_bots: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.accounts or self.chat_bots or self.sources)

    @property
    def details(self) -> dict[str, list[str]]:
        """The fields of an audit record."""
        return {name: list(names) for name, names in asdict(self).items() if names}


NO_GRANTS = Grants()


def grant(
    connection: Connection,
    actor: Principal,
    user_id: uuid.UUID,
    grants: Grants,
    origin: Origin = COMMAND_LINE,
) -> UserRow:
    """Let a user see more. What it sees already stays. Raises NotFound for what the actor does not see itself."""
    with changing_user(connection, actor, user_id):
        table.add_grants(connection, user_id, resolve(connection, actor, grants))
        record(connection, actor, origin, "grant.add", f"user:{user_id}", **grants.details)
        return read_user(connection, user_id)


def revoke(
    connection: Connection,
    actor: Principal,
    user_id: uuid.UUID,
    grants: Grants,
    origin: Origin = COMMAND_LINE,
) -> UserRow:
    """Take grants back. Raises NotFound for those that the user does not have; then it keeps all."""
    with changing_user(connection, actor, user_id) as user:
        missing = [
            *(f"account {name}" for name in grants.accounts if name not in user.accounts),
            *(f"chat bot {name}" for name in grants.chat_bots if name not in user.chat_bots),
            *(f"source {name}" for name in grants.sources if name not in user.sources),
        ]
        if missing:
            raise NotFound(f"{user.username} has no grant on {', '.join(missing)}.")
        table.remove_grants(connection, user_id, resolve(connection, actor, grants))
        record(connection, actor, origin, "grant.remove", f"user:{user_id}", **grants.details)
        return read_user(connection, user_id)


def resolve(connection: Connection, actor: Principal, grants: Grants) -> list[Grant]:
    """Return the grants by id. Raises NotFound that lists what does not exist or is beyond the actor's own grants."""
    bots = [_bot(name) for name in grants.chat_bots]
    accounts = table.account_ids(connection, [*grants.accounts, *(account for account, _ in bots)])
    sources = table.source_ids(connection, grants.sources)
    unknown = [
        *(
            f"account {name}"
            for name in grants.accounts
            if name not in accounts or not in_scope(actor, Target(account=name))
        ),
        *(
            f"chat bot {account}/{name}"
            for account, name in bots
            if account not in accounts or not in_scope(actor, Target(chat_bot=f"{account}/{name}"))
        ),
        *(
            f"source {name}"
            for name in grants.sources
            if name not in sources or not in_scope(actor, Target(source=name))
        ),
    ]
    if unknown:
        # The owner may type a name that does not exist yet; all others have the names that they see.
        creation = " An account begins with: rag sources add NAME DIR --account NAME"
        hint = creation if actor.user_id is None and grants.accounts else ""
        raise NotFound(f"There is no {', no '.join(unknown)}.{hint}")
    return [
        *(Grant(account_id=accounts[name]) for name in grants.accounts),
        *(Grant(account_id=accounts[account], chat_bot=name) for account, name in bots),
        *(Grant(source_id=sources[name]) for name in grants.sources),
    ]


def set_account(
    connection: Connection,
    actor: Principal,
    source_id: uuid.UUID,
    account: str | None,
    origin: Origin = COMMAND_LINE,
) -> None:
    """Let an account own a source; it is created if there is none of this name. None: no account owns the source."""
    with connection.transaction():
        old = table.account_of_source(connection, source_id)
        if old == account:
            return
        account_id = account and table.ensure_account(connection, account_name(account))
        table.set_account(connection, source_id, account_id or None)
        record(
            connection, actor, origin, "source.account", f"source:{source_id}", old=old, new=account
        )


def _bot(name: str) -> Sequence[str]:
    account, slash, bot = name.partition("/")
    if not slash or not account or not 0 < len(bot) <= MAX_CHAT_BOT:
        raise ConfigError(f"chat bot: expected ACCOUNT/NAME, found {name!r}")
    return account, bot
