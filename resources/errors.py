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


class SourceRemoved(ConfigError):
    """The source of a run was removed, or its shards were renumbered, after the run was requested."""


class UnexpectedError(RagError):
    """An error of one source that no stage expects: a bug, or a library's error. The run's log has its traceback."""


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


class RerankerFailed(RagError):
    """A reranker gave no usable scores; the search keeps its first order, and the message says why."""

    transient = True


class OtherModel(ConfigError):
    """Another model answers under the name of the one that made the stored vectors."""


class WrongSecret(ConfigError):
    """The deployment's secret is not the one with which the data in the database were made."""


class ParseError(RagError):
    """A document that cannot be read; the message is recorded with it as the reason."""


class SourceError(RagError):
    """A source that cannot be listed or fetched."""


class UnreadablePart(SourceError):
    """A part of a source, such as a folder or a nested sitemap, cannot be listed. `glob` excludes it from the source.

    `remedy`: the beginning of the advice, in the imperative.
    """

    def __init__(
        self, message: str, glob: str = "", remedy: str = "Make the folder readable"
    ) -> None:
        super().__init__(message)
        self.glob, self.remedy = glob, remedy


class SourceChanging(SourceError):
    """A document whose content changed or is being written while it is read: the next sync reads it."""


class SourceUnavailable(SourceError):
    """A source whose server does not answer, or reports a temporary failure."""

    transient = True


class DeletionGuard(SourceError):
    """A source lists so much less than before that nothing is deleted until a person confirms the deletion."""


class ContentGuard(SourceError):
    """So many documents of a source turned into one and the same content that they wait until a person confirms it."""


class VectorError(RagError):
    """A vector that must not be stored; the message names the chunk, the expected and the found value."""


class Fenced(RagError):
    """Another writer took over this partition; it does the work that is not acknowledged yet."""


class NotAuthenticated(RagError):
    """A key, token or password that is not accepted. The message never says which part was wrong."""


class Forbidden(RagError):
    """The principal lacks a permission, or a role."""


class NotFound(ConfigError):
    """Nothing of that name or id, or nothing that the principal may know of."""


class Conflict(ConfigError):
    """Something of that name exists already, or has changed meanwhile."""


class Overloaded(RagError):
    """Too many requests wait; `retry_after`: seconds after which a new try makes sense."""

    transient = True

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LimitExceeded(Overloaded):
    """One key, user or address sent more than its limit, or guessed too often."""
