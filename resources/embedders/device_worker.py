"""The process of one device: `python -m resources.embedders.device_worker FD` embeds what it is sent.

First come the embedder's name and options, then (texts, kinds) again and again. Started and watched by `devices`; it
ends at the end of its socket.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from resources.embedders.registry import create_embedder
from resources.errors import RagError
from resources.fault_injection import fault_point


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, ConnectionError):  # the parent is gone
        spec, options = connection.recv()
        embedder = create_embedder(spec, **options)
        while True:
            texts, kinds = connection.recv()
            fault_point("text embedding")
            try:
                answer = embedder.embed(texts, kinds)
            except RagError as error:
                answer = error
            except Exception as error:  # the library's own may not be known to the parent
                answer = RuntimeError(f"{type(error).__name__}: {error}")
            connection.send(answer)


if __name__ == "__main__":
    main()
