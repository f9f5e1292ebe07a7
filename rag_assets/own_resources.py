"""Whether the top-level package `resources` is this project's: a common name, which other packages have too."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec


def require_own_resources() -> None:
    """Raise ImportError if Python imports another package as `resources`. The command `rag` ends with one sentence."""
    if problem := _foreign_resources():
        if os.path.basename(sys.argv[0]) == "rag":
            print(f"error: {problem}", file=sys.stderr)
            raise SystemExit(2)
        raise ImportError(problem)


def _foreign_resources() -> str | None:
    """Return the error, or None. Our package lies beside `rag_assets`, in a checkout as in site-packages."""
    own = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "resources")
    spec = find_spec("resources")
    folders = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
    if not any(os.path.realpath(folder) == os.path.realpath(own) for folder in folders):
        actual = f"{folders[0]}, which comes first on sys.path" if folders else "none"
        return (
            f"rag-assets needs its own package `resources`, {own}, but Python finds {actual}. "
            "Start Python in another folder, or install rag-assets into an environment of its own."
        )
    # Of two packages in one folder, the one that was installed last overwrote files of the other.
    try:
        with open(os.path.join(own, "errors.py"), encoding="utf-8") as file:
            intact = "class RagError" in file.read()
    except OSError:
        intact = False
    if intact:
        return None
    return (
        f"rag-assets needs its own package `resources`, but another package overwrote files in {own}. "
        "Install rag-assets into an environment of its own."
    )
