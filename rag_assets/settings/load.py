"""All settings of a deployment, read from `RAG_*` environment variables and the settings file.

The fields, their defaults and their validators are in the other modules of this folder. Nothing is connected to or
started here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rag_assets.settings.audit import AuditSettings
from rag_assets.settings.embedders import EmbedderSettings
from rag_assets.settings.ingestion import IngestionSettings
from rag_assets.settings.limits import LimitSettings
from rag_assets.settings.messages import sentence
from rag_assets.settings.oidc import OidcSettings
from rag_assets.settings.ownership import OwnershipSettings
from rag_assets.settings.passwords import PasswordSettings
from rag_assets.settings.rerankers import RerankerSettings
from rag_assets.settings.schedules import ScheduleSettings
from rag_assets.settings.search import SearchSettings
from rag_assets.settings.serving import ServingSettings
from rag_assets.settings.stores import StoreSettings, default_home
from rag_assets.settings.tokens import TokenSettings
from resources.errors import ConfigError
from resources.urls import without_secrets


# Pydantic validates the fields of the LAST base first, and a validator sees only the fields before its own: the default
# of SearchSettings.dense_index depends on StoreSettings.milvus_uri.
class Settings(
    AuditSettings,
    OidcSettings,
    TokenSettings,
    PasswordSettings,
    LimitSettings,
    OwnershipSettings,
    ServingSettings,
    ScheduleSettings,
    RerankerSettings,
    SearchSettings,
    IngestionSettings,
    EmbedderSettings,
    StoreSettings,
    BaseSettings,
):
    """The configuration of one deployment. Field `postgres_url` is the variable `RAG_POSTGRES_URL`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix="RAG_", extra="ignore", frozen=True, env_ignore_empty=True
    )


#: Settings whose whole value is a secret. URLs may contain one; `without_secrets` masks it.
SECRETS = frozenset(
    {"milvus_token", "openai_api_key", "reranker_api_key", "secret_key", "oidc_client_secret"}
)


def settings_file(home: Path) -> Path:
    return home / "settings.env"


def write_setting(home: Path, name: str, value: str) -> None:
    """Write a variable to the settings file, in place of an earlier value."""
    file = settings_file(home)
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    kept = [line for line in lines if not line.startswith(f"{name}=")]
    temporary = file.with_suffix(".tmp")
    temporary.write_text("\n".join([*kept, f"{name}='{value}'", ""]), "utf-8")
    temporary.replace(file)


def configured_home() -> Path:
    """Return the home folder of the environment, which also tells where the settings file is."""
    return Path(os.environ.get("RAG_HOME") or default_home()).expanduser().absolute()


def load_settings() -> Settings:
    """Read the environment, then, for variables that are not in it, `settings.env` in the home folder.

    `rag index tune` writes that file. Raises ConfigError that lists every problem: what was expected, what was found.
    """
    file = settings_file(configured_home())
    try:
        return Settings(_env_file=file)  # pyright: ignore[reportCallIssue]
    except UnicodeDecodeError:
        # Without the line: it may be a secret.
        raise ConfigError(
            f"{file} is not UTF-8. Save it as UTF-8 and run the command again."
        ) from None
    except ValidationError as error:
        lines = [
            f"  RAG_{name.upper()}={shown_value(name, problem['input'])}: {sentence(problem)}"
            for problem in error.errors()
            for name in [str(problem["loc"][0])]
        ]
        raise ConfigError(
            "The configuration has problems:\n"
            + "\n".join(lines)
            + "\nFix or unset these variables"
            + (f" (also in {file})." if file.exists() else ".")
        ) from error


@contextmanager
def embedder_instead(name: str) -> Iterator[None]:
    """Let this process and the ones that it starts load settings with another embedder."""
    variable = "RAG_EMBEDDER"
    before = os.environ.get(variable)
    os.environ[variable] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def shown_value(name: str, value: object) -> str:
    """Return the value of a setting as JSON, without secrets."""
    if name in SECRETS and value:
        return '"***"'
    return json.dumps(
        without_secrets(value) if isinstance(value, str) else value, ensure_ascii=False, default=str
    )
