"""Names of character sets, as servers and documents state them, and the codecs that they mean.

The meaning is that of browsers (the WHATWG encoding standard): iso-8859-1 is windows-1252, gb2312 is gb18030.
Nothing is decoded here.
"""

from __future__ import annotations

import codecs
import re
from functools import cache

#: Codecs of Python -> the supersets that browsers use, in the order in which they are tried.
_SUPERSETS = {
    "ascii": ("cp1252",),
    "iso8859-1": ("cp1252",),
    "iso8859-9": ("cp1254",),
    "iso8859-11": ("cp874",),
    "tis-620": ("cp874",),
    "shift_jis": ("cp932", "shift_jisx0213"),
    "cp932": ("cp932", "shift_jisx0213"),
    "euc_jp": ("euc_jp", "euc_jisx0213"),
    "euc_kr": ("cp949",),
    "gb2312": ("gb18030",),
    "gbk": ("gb18030",),
    "big5": ("cp950", "big5hkscs"),
    "big5hkscs": ("big5hkscs", "cp950"),
    "iso2022_jp": ("iso2022_jp_2", "iso2022_jp_ext"),
}
#: Labels that Python does not know, or that mean something else to browsers.
_LABELS = {
    **dict.fromkeys(("unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "utf8mb4"), "utf-8"),
    **dict.fromkeys(("unicode", "csunicode", "unicodefeff", "ucs-2", "iso-10646-ucs-2"), "utf-16"),
    "unicodefffe": "utf-16-be",
    **dict.fromkeys(("windows-874", "dos-874"), "cp874"),
    **dict.fromkeys(("logical", "visual", "csiso88598i", "csiso88598e"), "iso8859-8"),
    **dict.fromkeys(("csiso88596i", "csiso88596e"), "iso8859-6"),
    "sun_eu_greek": "iso8859-7",
    **dict.fromkeys(("windows-949", "ksc5601", "ks_c_5601-1989", "iso-ir-149"), "euc_kr"),
    **dict.fromkeys(("cn-big5", "x-x-big5", "cp950", "ms950"), "big5"),
    **dict.fromkeys(("sjis", "windows-31j"), "shift_jis"),
    "mac": "mac-roman",
    "gb_2312": "gb2312",
    "mac-ukrainian": "mac-cyrillic",
    **dict.fromkeys(("koi", "koi8"), "koi8-r"),
    "koi8-ru": "koi8-u",
    # Of LaTeX.
    "ansinew": "cp1252",
    "applemac": "mac-roman",
}
_ISO_8859 = re.compile(r"(?:cs)?iso[-_ ]?8859[-_ ]?(\d{1,2})(?::\d{4})?(?:-[ie])?")
#: Codecs of texts. Python has others, such as "rot13", "idna" and "unicode_escape", which a document must not choose.
_TEXT_CODECS = re.compile(
    r"utf-(?:8|16|32)(?:-[lb]e)?|ascii|cp\d{3,4}|iso8859-\d+|iso2022_\w+|koi8-\w|mac-\w+|tis-620|johab|hz|"
    r"shift_jis\w*|euc_\w+|big5\w*|gb\w+|ptcp154|kz1048|hp-roman8"
)

_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
#: Statements at the start of a document: XML, HTML, CSS, gettext and mail headers, editors and Python, LaTeX, AsciiDoc.
_STATEMENT = re.compile(
    rb"""\A\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*["']\s*([\w.:-]+)"""
    rb"""|<meta\b[^>]{0,500}?\bcharset\s*=\s*["']?\s*([\w.:-]+)"""
    rb"""|\A@charset\s+["']([\w.:-]+)["']"""
    rb"""|^["']?Content-Type:[^\n]{0,100}?\bcharset\s*=\s*["']?([\w.:-]+)"""
    rb"""|\A(?:[^\n]*\n)?[^\n]{0,200}?-\*-[^\n]{0,80}?\bcoding[:=][ \t]*([\w.:-]+)"""
    rb"""|\A(?:[^\n]*\n)?[ \t]*\#[^\n]{0,80}?\b(?:file)?(?:en)?coding[:=][ \t]*([\w.:-]+)"""
    rb"""|\\usepackage\[([\w.:-]+)\]\{inputenc\}"""
    rb"""|^:encoding:[ \t]+([\w.:-]+)""",
    re.IGNORECASE | re.MULTILINE,
)
#: Browsers look for a statement in the first 1,024 bytes; pages with long comments or scripts state it later.
_STATEMENT_BYTES = 4096
_CONTENT_TYPE = re.compile(r""";\s*charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


@cache
def codecs_of(label: str) -> tuple[str, ...]:
    """Return the codecs that a label means, to be tried in this order; empty if it names no encoding of text."""
    name = label.strip().lower()
    if name not in _LABELS and name.startswith("x-"):
        name = name.removeprefix("x-")
    if iso := _ISO_8859.fullmatch(name):
        name = f"iso8859-{int(iso[1])}"
    try:
        codec = codecs.lookup(_LABELS.get(name, name)).name
    except (LookupError, ValueError):
        return ()
    if not _TEXT_CODECS.fullmatch(codec):
        return ()
    return _SUPERSETS.get(codec, (codec,))


def stated_in_document(data: bytes) -> str | None:
    """Return the label that a document states at its start, or None."""
    head = data[:_STATEMENT_BYTES]
    # Most files state nothing; the pattern takes 0.3 ms.
    if not any(word in head.lower() for word in (b"coding", b"charset", b"inputenc")):
        return None
    head = _COMMENT.sub(b"", head)
    statement = _STATEMENT.search(head)
    return next(filter(None, statement.groups())).decode("ascii", "replace") if statement else None


def stated_in_content_type(content_type: str) -> str | None:
    """Return the label in the `charset` of a Content-Type, or None."""
    stated = _CONTENT_TYPE.search(content_type)
    return stated[1] if stated else None
