"""RAG ingestion as Dagster assets: from source documents to Milvus collections that match PostgreSQL.

The names in `__all__` are the public API (docs/reference/python.md). Each is imported at its first use: the command
line, which imports this package too, must not wait for them.
"""

from rag_assets.own_resources import require_own_resources

# Here, since all modules below import `resources`: another project's package of that name would fail with a riddle.
require_own_resources()

# Type checkers know this name. Importing `typing` for it would take longer than the rest of this module.
TYPE_CHECKING = False

__all__ = [
    "AccessScope",
    "Answer",
    "ConfigError",
    "Deployment",
    "EmbedderUnavailable",
    "Evaluations",
    "Filters",
    "Hit",
    "Holder",
    "RagError",
    "Records",
    "SearchRequest",
    "Searcher",
    "Settings",
    "StackError",
    "StoreUnavailable",
    "load_settings",
]

if TYPE_CHECKING:
    from rag_assets.deployment import Deployment
    from rag_assets.evaluation.frames import Evaluations
    from rag_assets.pipeline.access import AccessScope
    from rag_assets.pipeline.filters import Filters
    from rag_assets.pipeline.hits import Hit, Holder
    from rag_assets.search.answer import Answer
    from rag_assets.search.request import SearchRequest
    from rag_assets.search.searcher import Searcher
    from rag_assets.settings.load import Settings, load_settings
    from resources.errors import (
        ConfigError,
        EmbedderUnavailable,
        RagError,
        StackError,
        StoreUnavailable,
    )
    from resources.frames import Records
else:
    _MODULES = {
        "AccessScope": "rag_assets.pipeline.access",
        "Answer": "rag_assets.search.answer",
        "ConfigError": "resources.errors",
        "Deployment": "rag_assets.deployment",
        "EmbedderUnavailable": "resources.errors",
        "Evaluations": "rag_assets.evaluation.frames",
        "Filters": "rag_assets.pipeline.filters",
        "Hit": "rag_assets.pipeline.hits",
        "Holder": "rag_assets.pipeline.hits",
        "RagError": "resources.errors",
        "Records": "resources.frames",
        "SearchRequest": "rag_assets.search.request",
        "Searcher": "rag_assets.search.searcher",
        "Settings": "rag_assets.settings.load",
        "StackError": "resources.errors",
        "StoreUnavailable": "resources.errors",
        "load_settings": "rag_assets.settings.load",
    }

    def __getattr__(name: str) -> object:
        """Import a public name at its first use."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
