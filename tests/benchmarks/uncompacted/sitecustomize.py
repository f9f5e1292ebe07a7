"""Loaded by a Milvus Lite process whose PYTHONPATH names this folder: it does not compact.

A compaction keeps one row of an id that was there twice, sooner or later; what is measured must wait for the check.
"""

from milvus_lite.engine import compaction

setattr(compaction.CompactionManager, "maybe_compact", lambda *_: False)  # noqa: B010
