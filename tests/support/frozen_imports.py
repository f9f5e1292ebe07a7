"""The last module that the server of the forks imports: no garbage collection in a fork copies the imports."""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
