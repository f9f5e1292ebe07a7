"""The process of one device: `python -m resources.embedders.device_worker FD` embeds texts from an inherited socket.

It receives the embedder's name and options first, then triples (texts, kinds, whether the texts are queries).
`devices` starts and watches it; it exits when its socket closes.
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
    # The parent handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    # These errors mean that the parent is gone.
    with suppress(EOFError, ConnectionError):
        spec, options = connection.recv()
        embedder = create_embedder(spec, **options)
        while True:
            texts, kinds, queries = connection.recv()
            fault_point("text embedding")
            try:
                answer = (embedder.embed_queries if queries else embedder.embed)(texts, kinds)
            except RagError as error:
                answer = error
            # The parent may be unable to unpickle a library's exception class.
            except Exception as error:
                answer = RuntimeError(f"{type(error).__name__}: {error}")
            connection.send(answer)


if __name__ == "__main__":
    main()
