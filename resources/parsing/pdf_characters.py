"""The characters of PDF pages with their places, from the PDFium library that kreuzberg has loaded.

Kreuzberg returns text without places. If its library cannot be found by name (another version or system), no page has
characters, and the text stays as kreuzberg returns it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

#: Pages with more characters are no prose, and their layout is not examined.
_MAX_CHARACTERS = 30_000
_LIBRARY = {"darwin": "libpdfium.dylib", "win32": "pdfium.dll"}.get(sys.platform, "libpdfium.so")


class Character(NamedTuple):
    """A character and the box of its font around it; the y axis points upwards. Blanks that PDFium adds have no box."""

    text: str
    left: float
    right: float
    bottom: float
    top: float


class _Box(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("left", "top", "right", "bottom")]


@cache
def _pdfium() -> ctypes.PyDLL | None:
    # RTLD_NOLOAD: only the library that is loaded already. PyDLL: without releasing the GIL, calls are faster.
    mode = getattr(os, "RTLD_NOLOAD", 0) | getattr(os, "RTLD_LAZY", 0)
    try:
        library = ctypes.PyDLL(_LIBRARY, mode=mode)
        pointer, number = ctypes.c_void_p, ctypes.c_int
        for name, result, arguments in (
            ("FPDF_LoadMemDocument", pointer, (ctypes.c_char_p, number, ctypes.c_char_p)),
            ("FPDF_LoadPage", pointer, (pointer, number)),
            ("FPDFText_LoadPage", pointer, (pointer,)),
            ("FPDFText_CountChars", number, (pointer,)),
            ("FPDFText_GetUnicode", ctypes.c_uint, (pointer, number)),
            ("FPDFText_GetLooseCharBox", number, (pointer, number, pointer)),
            ("FPDFText_IsGenerated", number, (pointer, number)),
            ("FPDFText_ClosePage", None, (pointer,)),
            ("FPDF_ClosePage", None, (pointer,)),
            ("FPDF_CloseDocument", None, (pointer,)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library


def characters(data: bytes, page_count: int) -> Iterator[list[Character]]:
    """Yield the characters of each page in the order in which they are drawn; none if PDFium is not available."""
    library = _pdfium()
    document = library.FPDF_LoadMemDocument(data, len(data), None) if library else None
    if library is None or not document:
        return
    try:
        for number in range(page_count):
            page = library.FPDF_LoadPage(document, number)
            text_page = library.FPDFText_LoadPage(page) if page else None
            try:
                yield _page_characters(library, text_page) if text_page else []
            finally:
                if text_page:
                    library.FPDFText_ClosePage(text_page)
                if page:
                    library.FPDF_ClosePage(page)
    finally:
        library.FPDF_CloseDocument(document)


def _page_characters(library: ctypes.PyDLL, text_page: int) -> list[Character]:
    count = library.FPDFText_CountChars(text_page)
    if not 0 < count <= _MAX_CHARACTERS:
        return []
    box = _Box()
    reference = ctypes.byref(box)
    get_code, get_box = library.FPDFText_GetUnicode, library.FPDFText_GetLooseCharBox
    found: list[Character] = []
    # PDFium gives characters above U+FFFF as two halves.
    half = 0
    for index in range(count):
        code = get_code(text_page, index)
        if 0xD800 <= code < 0xDC00:
            half = code
            continue
        if 0xDC00 <= code < 0xE000:
            code = 0x10000 + ((half - 0xD800) << 10) + code - 0xDC00 if half else 0xFFFD
        half = 0
        get_box(text_page, index, reference)
        text = chr(code) if 0 < code < 0x110000 else ""
        found.append(Character(text, box.left, box.right, box.bottom, box.top))
    return found
