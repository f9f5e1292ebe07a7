"""`rag sources credentials | rotate-credentials`: the logins of sources. Never shown, never on a command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from rag_assets.cli.output import command, note, plural, print_json
from rag_assets.cli.sources import CredentialOption, NameArgument, read_credentials
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import ConfigError


@command
def set_credentials(
    name: NameArgument,
    credential: CredentialOption = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all credentials.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Set the credentials of a source; they replace the previous ones."""
    from rag_assets.operations.source_specs import check_source
    from resources.credentials import encrypt
    from resources.postgres.identity.audit_chain import append_operation
    from resources.postgres.registry.sources import get_source, update_source

    if bool(credential) == clear:
        raise ConfigError(
            "Expected --credential NAME=@VARIABLE (or NAME, to be prompted), or --clear."
        )
    credentials = read_credentials(credential or [])
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        row = get_source(connection, name)
        if problems := check_source(row.source_type, row.config, row.schedule, list(credentials)):
            raise ConfigError("\n".join(problems))
        with connection.transaction():
            update_source(connection, replace(row, credentials_encrypted=encrypt(credentials)))
            append_operation(
                connection,
                "source.credentials",
                f"source:{row.id}",
                name=row.name,
                credentials=list(credentials),
            )
    if as_json:
        print_json({"name": name, "credentials": dict.fromkeys(credentials, "***")})
        return
    names = ", ".join(credentials) or "none"
    note(f"Credentials of source {name}: {names}.")


@command
def rotate_credentials(as_json: JsonOption = False) -> None:
    """Encrypt all credentials with the first key of RAG_CREDENTIALS_KEY (new key first, old one behind a comma)."""
    from resources.credentials import rotate
    from resources.postgres.identity.audit_chain import append_operation
    from resources.postgres.registry.sources import list_sources, update_source

    deployment = Deployment.from_environment()
    deployment.start()
    # One transaction: either all credentials are encrypted again, or none.
    with deployment.postgres().connect() as connection:
        rows = [row for row in list_sources(connection) if row.credentials_encrypted]
        for row in rows:
            rotated = rotate(row.credentials_encrypted or "")
            update_source(connection, replace(row, credentials_encrypted=rotated))
        append_operation(connection, "source.rotate_credentials", sources=len(rows))
    if as_json:
        print_json({"rotated": [row.name for row in rows]})
    else:
        note(f"The credentials of {plural(len(rows), 'source')} are encrypted with the first key.")
