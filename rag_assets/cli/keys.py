"""`rag keys`: adds, lists, rotates and revokes API keys. A key is printed once, alone on its line."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.output import command, is_verbose, note, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.cli.times import duration, future
from rag_assets.cli.users import OWNER, connected

if TYPE_CHECKING:
    from rag_assets.identity.api_keys import IssuedKey
    from resources.postgres.connection import Connection
    from resources.postgres.identity.api_keys import KeyRow

app = typer.Typer(help="Add, list, rotate and revoke API keys.", no_args_is_help=True)

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The id or the prefix of a key: rag keys list", show_default=False
    ),
]


@app.command()
@command
def add(
    user: Annotated[str, typer.Option(help="The owner: an email address or a username.")],
    name: Annotated[str, typer.Option(help="A label; several keys may have the same.")],
    permission: Annotated[
        list[str] | None,
        typer.Option(
            "--permission", help="What it may do; default: search:read, document:read (repeatable)."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="30d, 12h or a date such as 2027-01-31; default: never.")
    ] = None,
    rate_limit: Annotated[int, typer.Option(help="Requests a minute.")] = 100,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network", metavar="CIDR", help="Only from here, such as 10.0.0.0/8 (repeatable)."
        ),
    ] = None,
    description: Annotated[str | None, typer.Option(help="Shown only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add an API key to a user and print it. It cannot be shown again.

    It does what its list and its owner's rights both allow when it is used.

    Example: rag keys add --user ann --name crawler --permission document:write --expires 90d
    """
    from rag_assets.identity import api_keys, users

    expires_at = future(expires, "--expires", datetime.now(UTC)) if expires else None
    spec = api_keys.KeySpec(
        name, permission or None, expires_at, network or (), rate_limit, description
    )
    with connected() as (deployment, connection):
        owner = users.get_by_name(connection, OWNER, user)
        issued = api_keys.add(connection, OWNER, deployment.secret, owner.id, spec)
    _print_issued(issued, as_json)


@app.command("list")
@command
def list_(
    user: Annotated[str | None, typer.Option(help="Only the keys of this user.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the API keys, without their secrets; with -v also their permissions and networks."""
    from rag_assets.identity import api_keys, users

    with connected() as (_, connection):
        owner = users.get_by_name(connection, OWNER, user).id if user else None
        rows = api_keys.list_keys(connection, OWNER, owner)
    rows.sort(key=lambda row: (row.username, row.created_at))
    if as_json:
        print_json({"keys": [document(row) for row in rows]})
        return
    if not rows:
        out.print("No API keys. Add one with: rag keys add --user NAME --name LABEL")
        return
    columns: dict[str, list[Any]] = {
        "key": [row.key_prefix for row in rows],
        "user": [row.username for row in rows],
        "name": [row.name for row in rows],
        "state": [api_keys.state(row) for row in rows],
        "last used": [row.last_used_at for row in rows],
    }
    if is_verbose():
        columns["expires"] = [row.expires_at for row in rows]
        columns["uses"] = [row.usage_count for row in rows]
        columns["a minute"] = [row.rate_limit_per_minute for row in rows]
        columns["permissions"] = [row.permissions for row in rows]
        columns["networks"] = [list(map(str, row.networks)) for row in rows]
    table("", list(columns), list(zip(*columns.values())))


@app.command()
@command
def rotate(
    key: KeyArgument,
    grace: Annotated[
        str, typer.Option(help="How long the old key still works: 1d, 12h or 0m.")
    ] = "1d",
    as_json: JsonOption = False,
) -> None:
    """Add a key with the same settings and print it; the old one expires after the grace period.

    Example: rag keys rotate rag_key_4fTq0cXwZ2Lm --grace 12h
    """
    from rag_assets.identity import api_keys

    period = duration(grace, "--grace")
    with connected() as (deployment, connection):
        key_id = _id_of(connection, key)
        issued = api_keys.rotate(connection, OWNER, deployment.secret, key_id, period)
    _print_issued(issued, as_json)


@app.command()
@command
def revoke(key: KeyArgument, as_json: JsonOption = False) -> None:
    """Refuse an API key from now on.

    Example: rag keys revoke rag_key_4fTq0cXwZ2Lm
    """
    from rag_assets.identity import api_keys

    with connected() as (_, connection):
        row = api_keys.revoke(connection, OWNER, _id_of(connection, key))
    if as_json:
        print_json(document(row))
        return
    note(f"Key {row.key_prefix} ({row.name} of {row.username}) is revoked.")


def document(key: KeyRow) -> dict[str, Any]:
    """Return a key as JSON documents have it: without its secret."""
    return {**key._asdict(), "networks": list(map(str, key.networks))}


def _print_issued(issued: IssuedKey, as_json: bool) -> None:
    row = issued.row
    if as_json:
        print_json({"key": issued.text, **document(row)})
        return
    ends = f"until {row.expires_at:%Y-%m-%d %H:%M} UTC" if row.expires_at else "without an end"
    note(f"{row.name} of {row.username}, {ends}: {', '.join(row.permissions)}. Shown only now:")
    out.print(issued.text, markup=False, soft_wrap=True)


def _id_of(connection: Connection, text: str) -> uuid.UUID:
    """Return the key of an id, of a prefix, or of a whole key."""
    from rag_assets.identity.api_key_format import parse_key
    from resources.errors import NotFound
    from resources.postgres.identity.api_keys import id_of_prefix

    try:
        return uuid.UUID(text)
    except ValueError:
        pass
    parsed = parse_key(text)
    prefix = parsed.prefix if parsed else text
    key_id = id_of_prefix(connection, prefix)
    if key_id is None:
        # Without the text, which may be a key with a typing error.
        raise NotFound("There is no such API key. See: rag keys list")
    return key_id
