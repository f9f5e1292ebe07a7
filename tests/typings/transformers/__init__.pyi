# Its own modules take pyright 20 s to read, for three names.
from typing import Any

def __getattr__(name: str) -> Any: ...
