"""`rag users`: adds, lists and changes users. The deployment's owner, who runs it, may do everything."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.confirmation import YesOption, confirm, has_terminal
from rag_assets.cli.output import command, facts, is_verbose, note, out, print_json, remark, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.principal import Principal
from resources.errors import ConfigError

if TYPE_CHECKING:
    from rag_assets.identity.grants import Grants
    from resources.postgres.connection import Connection
    from resources.postgres.identity.users import UserRow

app = typer.Typer(help="Add, list and change the users of the service.", no_args_is_help=True)

OWNER = Principal.owner()

UserArgument = Annotated[
    str, typer.Argument(metavar="USER", help="Email address or username.", show_default=False)
]
PermissionOption = Annotated[
    list[str] | None,
    typer.Option("--permission", help="One more permission than the role has (repeatable)."),
]
AccountOption = Annotated[
    list[str] | None, typer.Option("--account", help="All sources of an account (repeatable).")
]
ChatBotOption = Annotated[
    list[str] | None, typer.Option(metavar="ACCOUNT/NAME", help="One chat bot (repeatable).")
]
SourceOption = Annotated[
    list[str] | None, typer.Option("--source", help="One source (repeatable).")
]
RoleArgument = Annotated[
    str, typer.Argument(metavar="ROLE", help="viewer, editor, admin or super_admin.")
]


@app.command()
@command
def add(
    email: Annotated[str, typer.Argument(help="Email address.", show_default=False)],
    username: Annotated[str, typer.Option(help="A short name, shown in lists.")],
    role: Annotated[str, typer.Option(help="viewer, editor, admin or super_admin.")] = "viewer",
    permission: PermissionOption = None,
    account: AccountOption = None,
    chat_bot: ChatBotOption = None,
    source: SourceOption = None,
    full_name: Annotated[str | None, typer.Option(help="Shown only.")] = None,
    timezone: Annotated[str, typer.Option(help="Zone of shown times.")] = "Asia/Tokyo",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read a password from standard input.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a user. Without a password it cannot log in, but holds API keys.

    Example: rag users add ann@example.com --username ann --role editor --source handbook
    """
    from rag_assets.identity import users

    password = _read_password() if password_stdin else None
    with connected() as (deployment, connection):
        hashed = None
        if password is not None:
            hashed = _hash(deployment, password, email, username)
        spec = users.UserSpec(email, username, role, permission or (), full_name, timezone, hashed)
        user = users.add(connection, OWNER, spec, _grants(account, chat_bot, source))
    if as_json:
        print_json(document(user))
        return
    note(f"User {user.username} is added, as {user.role}.")
    name = shlex.quote(user.username)
    if not (user.role == "super_admin" or user.accounts or user.chat_bots or user.sources):
        note(f"It sees no source yet: rag users grant {name} --source NAME")
    if not user.has_password:
        note(f"It cannot log in. Give it a key: rag keys add --user {name} --name LABEL")


@app.command("list")
@command
def list_(as_json: JsonOption = False) -> None:
    """List the users; with -v also what they were granted."""
    from rag_assets.identity import users

    with connected() as (_, connection):
        rows = users.list_users(connection, OWNER)
    if as_json:
        print_json({"users": [document(row) for row in rows]})
        return
    if not rows:
        out.print("No users. Add one with: rag users add EMAIL --username NAME")
        return
    columns: dict[str, list[Any]] = {
        "username": [row.username for row in rows],
        "email": [row.email for row in rows],
        "role": [row.role for row in rows],
        "status": [_status(row) for row in rows],
        "last login": [row.last_login_at for row in rows],
    }
    if is_verbose():
        columns["sees"] = [_sees(row) for row in rows]
        columns["permissions"] = [row.permissions for row in rows]
    table("", list(columns), list(zip(*columns.values())))


@app.command()
@command
def show(user: UserArgument, as_json: JsonOption = False) -> None:
    """Show a user and what it may do."""
    from rag_assets.identity import users

    with connected() as (_, connection):
        row = users.get_by_name(connection, OWNER, user)
    _print_user(row, as_json)


@app.command()
@command
def role(user: UserArgument, role: RoleArgument, as_json: JsonOption = False) -> None:
    """Give a user another role. Its keys and tokens follow within two seconds.

    Example: rag users role ann admin
    """
    from rag_assets.identity import users

    with connected() as (_, connection):
        found = users.get_by_name(connection, OWNER, user)
        row = users.set_role(connection, OWNER, found.id, role)
    _report(row, f"User {row.username} is {row.role} now.", as_json)


@app.command()
@command
def lock(user: UserArgument, as_json: JsonOption = False) -> None:
    """Refuse a user's keys and logins, and end its sessions, until it is unlocked."""
    from rag_assets.identity import users

    with connected() as (_, connection):
        found = users.get_by_name(connection, OWNER, user)
        row = users.lock(connection, OWNER, found.id)
    _report(row, f"User {row.username} is locked.", as_json)


@app.command()
@command
def unlock(user: UserArgument, as_json: JsonOption = False) -> None:
    """Accept a user's keys and logins again, also after too many wrong passwords."""
    from rag_assets.identity import users

    with connected() as (_, connection):
        found = users.get_by_name(connection, OWNER, user)
        row = users.unlock(connection, OWNER, found.id)
    _report(row, f"User {row.username} is unlocked.", as_json)


@app.command()
@command
def password(
    user: UserArgument,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read it from standard input; do not ask.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Set a user's password, which ends its sessions. Its API keys stay.

    Example: rag users password ann
    """
    from rag_assets.identity import users

    if not password_stdin and (as_json or not has_terminal()):
        raise ConfigError("There is no terminal to type it on: add --password-stdin.")
    with connected() as (deployment, connection):
        found = users.get_by_name(connection, OWNER, user)
        text = _read_password() if password_stdin else _ask_password()
        hashed = _hash(deployment, text, found.email, found.username)
        row = users.set_password(connection, OWNER, found.id, hashed)
    _report(row, f"User {row.username} has a new password; its sessions ended.", as_json)


@app.command()
@command
def grant(
    user: UserArgument,
    account: AccountOption = None,
    chat_bot: ChatBotOption = None,
    source: SourceOption = None,
    permission: PermissionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a user see more sources, or do more than its role allows.

    Example: rag users grant ann --account north --permission metrics:read
    """
    from rag_assets.identity import users
    from rag_assets.identity.grants import grant as add_grants

    grants = _grants(account, chat_bot, source)
    _expect_something(grants, permission)
    with connected() as (_, connection), connection.transaction():
        row = users.get_by_name(connection, OWNER, user)
        if grants:
            row = add_grants(connection, OWNER, row.id, grants)
        if permission:
            row = users.add_permissions(connection, OWNER, row.id, permission)
    _print_user(row, as_json)


@app.command()
@command
def revoke(
    user: UserArgument,
    account: AccountOption = None,
    chat_bot: ChatBotOption = None,
    source: SourceOption = None,
    permission: PermissionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back what `rag users grant` gave.

    Example: rag users revoke ann --account north
    """
    from rag_assets.identity import users
    from rag_assets.identity.grants import revoke as remove_grants

    grants = _grants(account, chat_bot, source)
    _expect_something(grants, permission)
    with connected() as (_, connection), connection.transaction():
        row = users.get_by_name(connection, OWNER, user)
        if grants:
            row = remove_grants(connection, OWNER, row.id, grants)
        if permission:
            row = users.remove_permissions(connection, OWNER, row.id, permission)
    _print_user(row, as_json)


@app.command()
@command
def remove(user: UserArgument, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove a user with its API keys and sessions. What it did stays in the audit."""
    from rag_assets.identity import users

    with connected() as (_, connection):
        found = users.get_by_name(connection, OWNER, user)
        question = f"Remove user {found.username} ({found.email}) and its API keys?"
        confirm(question, ("users", "remove", user), yes=yes, as_json=as_json)
        users.remove(connection, OWNER, found.id)
    if as_json:
        print_json({"removed": document(found)})
        return
    note(f"User {found.username} is removed.")


@app.command()
@command
def init(as_json: JsonOption = False) -> None:
    """Print a token that makes the first super_admin, once, within an hour: POST /auth/init.

    Example: rag users init
    """
    from rag_assets.identity import one_time_tokens

    with connected() as (_, connection):
        token = one_time_tokens.issue(connection, "init")
    if as_json:
        print_json({"token": token})
        return
    note(
        "Send this token within an hour to POST /auth/init, with an email address, a username and a password:"
    )
    out.print(token, markup=False, soft_wrap=True)


def document(user: UserRow) -> dict[str, Any]:
    """Return a user as JSON documents have it."""
    return user._asdict()


def _print_user(user: UserRow, as_json: bool) -> None:
    from typing import cast

    from rag_assets.pipeline.permissions import Role, effective_permissions

    if as_json:
        print_json(document(user))
        return
    permissions = effective_permissions(cast(Role, user.role), user.permissions)
    facts(
        f"{user.username}: {user.role}",
        [
            ("email", user.email),
            ("name", user.full_name),
            ("status", _status(user)),
            ("sees", _sees(user)),
            ("may", sorted(permissions)),
            ("added to the role", user.permissions),
            ("last login", user.last_login_at),
            ("id", user.id),
        ],
    )


def _report(user: UserRow, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(document(user))
    else:
        note(sentence)


def _status(user: UserRow) -> str:
    if not user.is_active:
        return "locked"
    if not user.has_password:
        return "keys only"
    return "active" if user.is_verified else "not verified"


def _sees(user: UserRow) -> str:
    if user.role == "super_admin":
        return "everything"
    granted = [
        *(f"account {name}" for name in user.accounts),
        *(f"chat bot {name}" for name in user.chat_bots),
        *(f"source {name}" for name in user.sources),
    ]
    return ", ".join(granted) or "no source"


def _grants(
    accounts: Sequence[str] | None, chat_bots: Sequence[str] | None, sources: Sequence[str] | None
) -> Grants:
    from rag_assets.identity.grants import Grants

    return Grants(tuple(accounts or ()), tuple(chat_bots or ()), tuple(sources or ()))


def _expect_something(grants: Grants, permissions: list[str] | None) -> None:
    if not grants and not permissions:
        raise ConfigError("Expected --account, --chat-bot, --source or --permission.")


def _read_password() -> str:
    """Return the first line of standard input."""
    if sys.stdin is not None and sys.stdin.isatty():
        remark(
            "Type the password, then Enter; it is shown. Without --password-stdin it would not be."
        )
    try:
        password = sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""
    except UnicodeDecodeError:
        raise ConfigError("The password on standard input is not UTF-8.") from None
    if not password:
        raise ConfigError("Expected a password on standard input, found none.")
    return password


def _ask_password() -> str:
    return typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)


def _hash(deployment: Deployment, password: str, email: str, username: str) -> str:
    from contextlib import closing

    from rag_assets.identity.passwords import Passwords

    settings = deployment.settings
    with closing(Passwords(settings.password_memory_mib, settings.password_passes)) as passwords:
        return passwords.new_hash(password, email=email, username=username)


@contextmanager
def connected() -> Iterator[tuple[Deployment, Connection]]:
    """Start the stack, and open a session in autocommit mode."""
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        yield deployment, connection
