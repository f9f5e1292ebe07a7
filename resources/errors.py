"""The project's errors: one small tree.

A message names every problem, the expected and the found value, and ends with the command that fixes it. The command
line prints the message alone; assets turn it into `dagster.Failure`.
"""

from __future__ import annotations


class RagError(Exception):
    """An error that a user can act on. `transient` errors may go away without action: a retry makes sense."""

    transient = False


class ConfigError(RagError):
    """The configuration cannot work; the message lists every problem."""


class StackError(RagError):
    """The embedded PostgreSQL or Milvus could not be started or stopped."""


class StoreUnavailable(RagError):
    """PostgreSQL, Milvus or the storage does not answer."""

    transient = True


class EmbedderDied(RagError):
    """An embedding process died twice on the same texts."""

    transient = True


class EmbedderUnavailable(RagError):
    """The embedding server does not answer, or reports a temporary failure."""

    transient = True


class ParseError(RagError):
    """A document that cannot be read; the message is recorded with it as the reason."""


class SourceError(RagError):
    """A source that cannot be listed or fetched."""


class UnreadableFolder(SourceError):
    """A folder inside a source cannot be listed. `glob` excludes it from the source."""

    def __init__(self, message: str, glob: str = "") -> None:
        super().__init__(message)
        self.glob = glob


class SourceUnavailable(SourceError):
    """A source whose server does not answer, or reports a temporary failure."""

    transient = True


class DeletionGuard(SourceError):
    """A source lists so much less than before that nothing is deleted until a person confirms the deletion."""


class VectorError(RagError):
    """A vector that must not be stored; the message names the chunk, the expected and the found value."""


class Fenced(RagError):
    """Another writer took over this partition; it does the work that is not acknowledged yet."""
