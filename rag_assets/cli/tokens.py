"""`rag tokens`: the keys that sign access tokens, and the sessions of users."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from rag_assets.cli.output import command, note, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.cli.users import OWNER, connected

app = typer.Typer(
    help="Rotate the keys that sign access tokens, list and end sessions.", no_args_is_help=True
)

UserArgument = Annotated[
    str,
    typer.Argument(
        metavar="USER", help="An email address or a username: rag users list", show_default=False
    ),
]


@app.command("list")
@command
def list_(as_json: JsonOption = False) -> None:
    """List the keys that sign and verify access tokens, without their private parts."""
    from resources.postgres.identity.signing_keys import live_keys

    with connected() as (_, connection):
        rows = live_keys(connection)
    if as_json:
        keys = [
            {
                "kid": row.kid,
                "created_at": row.created_at,
                "signs_until": row.signs_until,
                "verifies_until": row.verifies_until,
                "signs": row.signs,
            }
            for row in rows
        ]
        print_json({"keys": keys})
        return
    if not rows:
        out.print("No keys. The first login makes one.")
        return
    table(
        "",
        ["key", "state", "signs until", "verifies until"],
        [
            (
                # Enough to tell them apart.
                row.kid[:12],
                "signs" if row.signs else "verifies",
                row.signs_until,
                row.verifies_until,
            )
            for row in rows
        ],
    )


@app.command()
@command
def rotate(
    revoke: Annotated[
        bool,
        typer.Option(
            "--revoke", help="Refuse the tokens of the earlier keys at once: a key was stolen."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a new key sign access tokens. Without --revoke, tokens of the earlier keys live until they expire.

    Users stay logged in: their refresh tokens give new access tokens.

    Example: rag tokens rotate
    """
    from rag_assets.identity import key_ring

    with connected() as (deployment, connection):
        settings = deployment.settings
        times = key_ring.KeyTimes(
            timedelta(days=settings.signing_key_days), settings.access_token_lifetime
        )
        kid = key_ring.rotate(connection, deployment.secret, times, OWNER.identity, revoke=revoke)
    if as_json:
        print_json({"kid": kid, "revoked": revoke})
        return
    earlier = "are refused" if revoke else "live until they expire"
    note(f"Key {kid[:12]} signs access tokens. Those of the earlier keys {earlier}.")


@app.command()
@command
def sessions(user: UserArgument, as_json: JsonOption = False) -> None:
    """List the sessions of a user: logins that have not ended."""
    from rag_assets.identity import users
    from resources.postgres.identity.sessions import live_sessions

    with connected() as (deployment, connection):
        owner = users.get_by_name(connection, OWNER, user)
        idle = timedelta(days=deployment.settings.session_idle_days)
        rows = live_sessions(connection, owner.id, idle)
    if as_json:
        found: list[dict[str, Any]] = [row._asdict() for row in rows]
        print_json({"user_id": owner.id, "sessions": found})
        return
    if not rows:
        out.print(f"{owner.username} has no sessions.")
        return
    table(
        "",
        ["login", "last used", "ends", "address", "program"],
        [
            (row.created_at, row.last_used_at, row.expires_at, row.address, row.user_agent)
            for row in rows
        ],
    )


@app.command()
@command
def end(user: UserArgument, as_json: JsonOption = False) -> None:
    """End all sessions of a user. Keys of the user stay; `rag users lock` refuses these too.

    Example: rag tokens end ann
    """
    from rag_assets.identity import users
    from rag_assets.identity.sessions import end_all

    with connected() as (_, connection):
        owner = users.get_by_name(connection, OWNER, user)
        ended = end_all(connection, OWNER, owner.id)
    if as_json:
        print_json({"user_id": owner.id, "ended_sessions": ended})
        return
    note(f"{owner.username}: {ended} session{'s' if ended != 1 else ''} ended.")
