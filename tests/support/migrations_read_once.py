"""Reads Dagster's database migrations once a process. Importing this module at any time is enough.

Otherwise each instance, and each tick of a sensor, executes a hundred files to learn the newest revision: 0.1 s.
"""

from __future__ import annotations

from functools import cache

from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.sql import ALEMBIC_SCRIPTS_LOCATION

_read = ScriptDirectory.from_config


@cache
def _migrations(config_file: str) -> ScriptDirectory:
    config = Config(config_file)
    config.set_main_option("script_location", ALEMBIC_SCRIPTS_LOCATION)
    return _read(config)


def _from_config(config: Config) -> ScriptDirectory:
    if config.get_main_option("script_location") == ALEMBIC_SCRIPTS_LOCATION:
        return _migrations(config.config_file_name or "")
    return _read(config)


ScriptDirectory.from_config = _from_config
