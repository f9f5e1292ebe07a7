"""The process that parses: `python -m resources.parsing.worker FD` answers requests on an inherited socket.

Started and watched by `workers`. It ends at the end of its socket (the parent is gone), and by an alarm of the kernel
when a document takes too long and nobody is left to kill it.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from resources.errors import ParseError
from resources.fault_injection import fault_point
from resources.parsing.document import ParsedDocument, parse_document
from resources.parsing.formats import Format

#: Seconds beyond the limit after which the kernel ends a worker that its parent has not ended.
_GRACE = 5


def answer(
    data: bytes, key: str, language: str | None, found: Format | None = None
) -> ParsedDocument | str:
    """The document, or the reason why there is none: whatever a parser raises is the fault of one file."""
    try:
        return parse_document(data, key, language=language, found=found)
    except ParseError as error:
        return str(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        detail = (str(error).splitlines() or [""])[0][:160]
        return f"the parser failed ({type(error).__name__}: {detail})"


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    connection = Connection(int(sys.argv[1]))
    import kreuzberg  # noqa: F401  0.1 s that are not the first document's

    connection.send(True)
    while True:
        try:
            data, key, language, seconds = connection.recv()
        except (EOFError, ConnectionError):
            return
        signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE)
        fault_point("document parsing")
        found = answer(data, key, language)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(found)


if __name__ == "__main__":
    main()
