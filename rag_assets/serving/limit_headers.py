"""What an answer says about rate limits: `RateLimit-Policy`, `RateLimit` and `Retry-After`.

The first two have the form of draft-ietf-httpapi-ratelimit-headers, version 10: `"key";q=600;w=60` and
`"key";r=599;t=12`, where t is the number of seconds until more is available.
"""

from __future__ import annotations

import math

from rag_assets.serving.rate_limits import Allowance
from rag_assets.serving.usage_window import WINDOW


def limit_headers(*allowances: Allowance) -> dict[str, str]:
    """Return the headers of an answer to which these limits apply. `Retry-After` only if one of them refused."""
    headers = {
        "RateLimit-Policy": ", ".join(
            f'"{allowance.policy}";q={allowance.limit};w={WINDOW:.0f}' for allowance in allowances
        ),
        "RateLimit": ", ".join(
            f'"{allowance.policy}";r={allowance.remaining};t={math.ceil(allowance.reset_seconds)}'
            for allowance in allowances
        ),
    }
    waits = [allowance.reset_seconds for allowance in allowances if not allowance.allowed]
    if waits:
        headers["Retry-After"] = str(max(1, math.ceil(max(waits))))
    return headers
