"""Whether a setting names a file of certificates."""

from __future__ import annotations

import ssl
from pathlib import Path


def authority_file(value: str) -> str:
    """Return the absolute path of the file, since daemons run in other folders; "" for none. Raises ValueError."""
    if not value:
        return ""
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise ValueError("expected a file of certificates (PEM), found none")
    try:
        ssl.create_default_context(cafile=str(path))
    except (ssl.SSLError, OSError) as error:
        raise ValueError(
            f"expected a readable file of certificates (PEM), found another one: {error}"
        ) from None
    return str(path)
