"""Links to the pages of the documentation, as metadata of Dagster."""

from __future__ import annotations

import dagster as dg

from rag_assets.settings.stores import data_file

_DOCS = data_file("").parent.parent / "docs"


def documentation(page: str) -> dg.MetadataValue:
    """Return the page's path in the checkout; an installed package has no docs/: its path in the repository."""
    file = _DOCS / page
    return dg.MetadataValue.path(str(file) if file.exists() else f"docs/{page}")
