"""Parsing: the bytes of one document become repaired text with a title and a language.

`document` assembles; `formats` decides what the bytes are; `decoding`, `structured` and `extraction` turn them into
text; `language` names the language; `workers` sets the limits of time and memory. No network, no OCR, no store. Heavy
libraries load at the first document.
"""

from resources.parsing.document import JSON, PARSER_VERSION, ParsedDocument, parse_document
from resources.parsing.workers import LimitExceeded, ParserPool

__all__ = [
    "JSON",
    "PARSER_VERSION",
    "LimitExceeded",
    "ParsedDocument",
    "ParserPool",
    "parse_document",
]
