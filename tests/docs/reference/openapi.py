"""The schema of the HTTP service."""

from __future__ import annotations

import json
from typing import Any, cast

from rag_assets.serving.app import create_app


def page() -> str:
    # The version is that of the installation, which a release changes.
    app = create_app(cast(Any, None), "0", body_limit=1 << 20)
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"
