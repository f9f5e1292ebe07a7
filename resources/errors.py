"""The project's errors: one small tree.

A message says everything that is wrong, what was expected and what was found, and ends with the command that mends
it. The command line prints the message alone; assets turn it into `dagster.Failure`.
"""

from __future__ import annotations


class RagError(Exception):
    """Anything that a user can act upon. `transient` errors may go away by themselves: a retry makes sense."""

    transient = False


class ConfigError(RagError):
    """The configuration cannot work: every problem is listed."""


class StackError(RagError):
    """The embedded PostgreSQL or Milvus could not be started or stopped."""


class StoreUnavailable(RagError):
    """PostgreSQL, Milvus or the storage does not answer."""

    transient = True


class EmbedderDied(RagError):
    """A process that embeds died twice over the same texts."""

    transient = True


class EmbedderUnavailable(RagError):
    """The server that embeds does not answer, or answers that it cannot now."""

    transient = True


class ParseError(RagError):
    """A document that cannot be read; the message is the reason that is recorded with it."""


class SourceError(RagError):
    """A source that cannot be listed or fetched."""


class SourceUnavailable(SourceError):
    """A source whose server does not answer, or answers that it cannot now."""

    transient = True


class DeletionGuard(SourceError):
    """A source lists so much less than before that nothing is deleted until a person confirms it."""


class VectorError(RagError):
    """A vector that must not be stored; the message names the chunk, what was expected and what was found."""


class Fenced(RagError):
    """Another writer took this partition over; what was not acknowledged is left to it."""
