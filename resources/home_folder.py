"""The home folder of a deployment: created on first use, or refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

from resources.errors import ConfigError


def create_home(home: Path) -> Path:
    """Create the home folder if it is missing, for its owner alone, and return it.

    Raises ConfigError if nothing can be written there.
    """
    try:
        # Documents are in it. Root's PostgreSQL runs as another user, who must pass through.
        home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(_message(home, "is a file, not a folder")) from None
    except OSError as error:
        raise ConfigError(_message(home, f"cannot be created: {error.strerror}")) from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise ConfigError(_message(home, "cannot be written: Permission denied"))
    return home


def _message(home: Path, problem: str) -> str:
    return f"RAG_HOME={home} {problem}. Set RAG_HOME to a folder that you may write to."
