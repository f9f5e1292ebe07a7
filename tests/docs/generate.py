"""Makes docs/reference again from the code: `python -m tests.docs.generate`, or `make reference`.

The page of tables needs a PostgreSQL with the schema: an embedded one is started, unless `--postgres URL` names one.
"""

from __future__ import annotations

import argparse
import os

from resources.embedded.stack import start_postgres, stop
from resources.postgres.schema import migrate
from tests.docs.pages import ROOT
from tests.docs.reference import checks, commands, openapi, permissions, python, settings, tables
from tests.support.folders import servers_folder

FOLDER = ROOT / "docs" / "reference"
COMMAND = "python -m tests.docs.generate"


def pages(postgres_url: str) -> dict[str, str]:
    """Return file name -> content. The database must have the current schema."""
    return {
        "settings.md": settings.page(),
        "commands.md": commands.page(),
        "tables.md": tables.page(postgres_url),
        "checks.md": checks.page(),
        "python.md": python.page(),
        "openapi.json": openapi.page(),
        "permissions.md": permissions.page(),
    }


def write(postgres_url: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in pages(postgres_url).items():
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(f"docs/reference/{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make docs/reference again from the code.")
    parser.add_argument("--postgres", metavar="URL", help="a database with the current schema")
    # The settings of this machine must not appear on a page.
    for name in [name for name in os.environ if name.startswith("RAG_")]:
        del os.environ[name]
    if url := parser.parse_args().postgres:
        write(url)
        return
    with servers_folder("rag-reference-") as folder:
        try:
            url = start_postgres(folder).url
            migrate(url)
            write(url)
        finally:
            stop(folder)


if __name__ == "__main__":
    main()
