"""Errors of libraries and of the system that are no bugs, as errors of ours."""

from __future__ import annotations

import errno

from resources.driver_errors import driver_error
from resources.errors import ConfigError, RagError, StoreUnavailable
from resources.extras import missing_extra

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def as_rag_error(error: Exception) -> RagError | None:
    """Return the error as one sentence, if it can happen without a bug; else None."""
    if isinstance(error, ModuleNotFoundError):
        return missing_extra(error, "This command")
    if isinstance(error, OSError):
        return _of_system(error)
    return driver_error(error)


def _of_system(error: OSError) -> RagError | None:
    place = error.filename or "A file"
    if error.errno in _FULL:
        return StoreUnavailable(
            f"The disk is full: {place}: {error.strerror}. Free some space and run the command again; "
            "committed work is kept."
        )
    if error.errno in _DENIED:
        return ConfigError(
            f"{place} cannot be read or written: {error.strerror}. Change its permissions, or set RAG_HOME to a folder "
            "that you may write to."
        )
    return None
