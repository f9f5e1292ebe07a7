"""The tests. This module is imported before any other of the project."""

import os

# The delay is read when the assets are imported. A failed step is tried as often as for users, but four times sooner.
os.environ.setdefault("RAG_RETRY_DELAY", "0.5")
