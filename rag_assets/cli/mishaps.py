"""Bugs: errors that nobody expected. The traceback of each is in a file, which the message names."""

from __future__ import annotations

import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path


class InternalError(Exception):
    """A bug: an error that nobody expected. The message says where its traceback is."""


def internal_error(error: Exception, home: Path) -> InternalError:
    """Write the traceback to a file and return the error that names the file."""
    text = "".join(traceback.format_exception(error))
    command = " ".join(Path(part).name if n == 0 else part for n, part in enumerate(sys.argv[:2]))
    lines = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {command}\n{text}\n"
    file = home / "logs" / "errors.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as log:
            log.write(lines)
    except OSError:
        # The home folder itself may be the problem.
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="rag-error-", suffix=".log", delete=False
        ) as log:
            log.write(lines)
        file = Path(log.name)
    reason = " ".join(str(error).split())[:300]
    return InternalError(
        f"unexpected {type(error).__name__}: {reason}. This is a bug. Its traceback is in {file}; "
        "please report it with the output of: rag --version"
    )
