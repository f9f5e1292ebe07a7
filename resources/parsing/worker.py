"""The parser process: `python -m resources.parsing.worker FD` answers requests on an inherited socket.

`workers` starts and watches it. It exits when its socket closes (the parent is gone); a kernel timer ends it if a
document takes too long and no parent is left to kill it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

from resources.errors import ParseError
from resources.fault_injection import fault_point
from resources.parsing.document import ParsedDocument, Untitled, parse_document
from resources.parsing.formats import Format

#: Seconds after the limit when the kernel ends a worker that its parent has not killed.
_GRACE_SECONDS = 5


def try_parse(
    data: bytes,
    key: str,
    language: str | None,
    charset: str | None,
    file_format: Format | None = None,
    read: Callable[[bytes, Format, str | None, str | None], Untitled] | None = None,
) -> ParsedDocument | str:
    """Return the document, or the reason for its failure: any exception of a parser fails one file only."""
    try:
        return parse_document(
            data, key, language=language, charset=charset, file_format=file_format, read=read
        )
    except ParseError as error:
        return str(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    # BaseException: a Rust panic is not an Exception.
    except BaseException as error:
        detail = (str(error).splitlines() or [""])[0][:160]
        return f"the parser failed ({type(error).__name__}: {detail})"


def main() -> None:
    # The parent handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    # Load it now: its 0.1 s must not count against the first document.
    import kreuzberg  # noqa: F401

    connection.send(True)
    while True:
        try:
            data, key, language, charset, seconds = connection.recv()
        except (EOFError, ConnectionError):
            return
        signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE_SECONDS)
        fault_point("document parsing")
        result = try_parse(data, key, language, charset)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(result)


if __name__ == "__main__":
    main()
