"""Steps are tried again as often as ever, but after 0.5, 1 and 2 seconds instead of 2, 4 and 8."""

from __future__ import annotations

from rag_assets.assets import stage

stage.RETRY = stage.RETRY._replace(delay=0.5)
stage.COMMON["retry_policy"] = stage.RETRY
