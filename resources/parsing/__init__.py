"""Parsing: the bytes of one document become repaired text with a title and a language.

`document` assembles the result; `formats` detects the format; `decoding`, `structured` and `extraction` turn bytes into
text; `front_matter` reads YAML fields; `language` detects the language; `workers` limits time and memory. No network,
no OCR, no store. Heavy libraries load with the first document.
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
