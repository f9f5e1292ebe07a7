"""Loaded by a Milvus Lite process whose PYTHONPATH contains this folder: the process does not compact.

A compaction removes duplicates of an id sooner or later, and the measured duplicates must still exist at the check.
"""

from milvus_lite.engine import compaction

setattr(compaction.CompactionManager, "maybe_compact", lambda *_: False)  # noqa: B010
