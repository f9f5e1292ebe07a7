"""The page of permissions, from the routes and the commands themselves."""

from __future__ import annotations

from typing import Any, cast

from rag_assets.cli.commands import PERMISSIONS as OF_COMMANDS
from rag_assets.pipeline.permissions import PERMISSIONS, ROLES, role_permissions
from rag_assets.serving.app import create_app
from rag_assets.serving.authorization import route_access
from tests.docs.reference.markdown import code, table
from tests.docs.reference.markdown import page as markdown_page


def page() -> str:
    routes = sorted(route_access(create_app(cast(Any, None), "0", body_limit=1 << 20)))
    sections = [
        "Who may do what. A role has the permissions of every lower role; single permissions are added to a user, "
        "and a key has those of its list that its owner has at the time of use. What a permission reaches is limited "
        "by the grants of accounts, chat bots and sources.",
        "## Roles\n"
        + table(
            ["permission", *ROLES],
            [
                [code(each), *("yes" if each in role_permissions(role) else "" for role in ROLES)]
                for each in PERMISSIONS
            ],
        ),
        "## Routes\n`public`: strangers too. `self`: whoever is authenticated, on what is their own.\n\n"
        + table(
            ["route", "needs"],
            [[code(f"{method} {path}"), code(access)] for path, method, access in routes],
        ),
        "## Commands\nWho runs a command is the deployment's owner and has every permission; the table names what the "
        "same work needs over HTTP. `machine`: about this machine, in no user's reach.\n\n"
        + table(
            ["command", "permission"],
            [[code(f"rag {name}"), code(access)] for name, access in OF_COMMANDS.items()],
        ),
    ]
    return markdown_page("Permissions", *sections)
