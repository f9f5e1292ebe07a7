"""Outlook's own containers, .msg and winmail.dat: messages, their text and what is attached to them.

`mail` collects what is found here. Kreuzberg reads the text of a .msg, but no attachment of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from resources.errors import ParseError
from resources.parsing.compound_file import CompoundFile
from resources.parsing.compressed_rtf import decompressed
from resources.parsing.decoding import decode
from resources.parsing.formats import HTML, RTF, Format

_OLE = b"\xd0\xcf\x11\xe0"
_TNEF = b"\x78\x9f\x3e\x22"
#: Numbers of MAPI properties.
_SUBJECT, _SENDER, _SENDER_ADDRESS, _SENDER_SMTP = 0x0037, 0x0C1A, 0x0C1F, 0x5D01
_TO, _CC, _SENT, _BODY, _RTF, _HTML = 0x0E04, 0x0E03, 0x0039, 0x1000, 0x1009, 0x1013
_FILE_NAME, _SHORT_FILE_NAME, _DISPLAY_NAME, _FILE, _CODE_PAGE = (
    0x3707,
    0x3704,
    0x3001,
    0x3701,
    0x3FFD,
)
#: The encoding of the HTML of a message.
_INTERNET_CODE_PAGE = 0x3FDE
_RECIPIENT_KIND, _ADDRESS, _SMTP = 0x0C15, 0x3003, 0x39FE
_RECIPIENT = "__recip_version1.0_#"
_ATTACHMENT = "__attach_version1.0_#"
_EMBEDDED = "__substg1.0_3701000D/"
#: Sizes of the values of fixed types in TNEF.
_FIXED = {2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 10: 4, 11: 2, 20: 8, 64: 8, 72: 16}
#: Numbers of encodings that are not `cp` and the number for Python.
_CHARSETS = {
    **{28590 + part: f"iso-8859-{part}" for part in range(1, 17)},
    **{20866: "koi8-r", 21866: "koi8-u", 65001: "utf-8", 20127: "us-ascii", 1200: "utf-16"},
    **dict.fromkeys((50220, 50221, 50222), "iso-2022-jp"),
    **{51932: "euc-jp", 51949: "euc-kr", 50225: "iso-2022-kr", 54936: "gb18030", 51936: "gb2312"},
}
_MAX_ATTACHMENTS = 1000
#: Values by number of the property.
Properties = Mapping[int, bytes | str]


class Collector(Protocol):
    """What collects the text of a mail: `mail.MailReader`."""

    def add_message(self, header: dict[str, str], depth: int) -> None: ...
    def add(self, text: str) -> None: ...
    def add_file(
        self, data: bytes, name: str, file_format: Format, charset: str | None = None
    ) -> None: ...
    def add_attachment(self, data: bytes, name: str, depth: int) -> None: ...
    def has(self, text: str) -> bool: ...
    def leave_out(self, what: str) -> None: ...
    def is_exhausted(self, depth: int) -> bool: ...


def is_outlook(data: bytes) -> bool:
    """Return whether the data is a winmail.dat or a .msg."""
    return data.startswith(_TNEF) or (
        data.startswith(_OLE) and "__properties_version1.0".encode("utf-16-le") in data
    )


def read_outlook(
    data: bytes, mail: Collector, depth: int, *, is_attached: bool = False
) -> dict[str, str]:
    """Add the message in `data` and its attachments, and return its header. Raises ParseError if it is damaged."""
    try:
        if data.startswith(_TNEF):
            # Attached to a mail, a winmail.dat contains what the mail itself says.
            return _read_tnef(data, mail, depth, has_header=not is_attached)
        return _read_storage(CompoundFile(data), "", mail, depth)
    except struct.error as error:
        raise ParseError("the Outlook message is damaged") from error


def _read_storage(file: CompoundFile, folder: str, mail: Collector, depth: int) -> dict[str, str]:
    properties = _storage_properties(file, folder)
    header = _header(properties) | _recipients(file, folder)
    mail.add_message(header, depth)
    _add_body(properties, mail)
    _read_attachments(file, folder, mail, depth)
    return header


def _recipients(file: CompoundFile, folder: str) -> dict[str, str]:
    """Return names and addresses of the recipients; the message itself states the names only."""
    recipients: dict[str, list[str]] = {}
    for storage in _storages(file, folder + _RECIPIENT):
        properties = _storage_properties(file, storage)
        kind = properties.get(_RECIPIENT_KIND, b"")
        field = {b"\1": "To", b"\2": "Cc"}.get(kind[:1] if isinstance(kind, bytes) else b"")
        if field and (person := _person(properties, _DISPLAY_NAME, _SMTP, _ADDRESS)):
            recipients.setdefault(field, []).append(person)
    return {field: ", ".join(people) for field, people in recipients.items()}


def _storages(file: CompoundFile, prefix: str) -> list[str]:
    """Return the paths of the storages whose path begins like this, in their order."""
    end = len(prefix)
    return sorted(
        {path[: path.index("/", end) + 1] for path in file.streams if path.startswith(prefix)}
    )


def _person(properties: Properties, name_number: int, *numbers: int) -> str:
    name = _text(properties, name_number)
    stated = [address for number in numbers if (address := _text(properties, number))]
    # The address of a person in the same organization is a path: /O=…/CN=….
    address = next((address for address in stated if "@" in address), "")
    if name and address and name != address:
        return f'"{name}" <{address}>'
    return name or next(iter(stated), "")


def _read_attachments(file: CompoundFile, folder: str, mail: Collector, depth: int) -> None:
    for storage in _storages(file, folder + _ATTACHMENT):
        if not _storages(file, storage + _EMBEDDED.removesuffix("/")):
            _add_attachment(_storage_properties(file, storage), mail, depth)
        elif not mail.is_exhausted(depth + 1):
            _read_storage(file, storage + _EMBEDDED, mail, depth + 1)


def _add_attachment(properties: Properties, mail: Collector, depth: int) -> None:
    name = next(
        (
            name
            for number in (_FILE_NAME, _SHORT_FILE_NAME, _DISPLAY_NAME)
            if (name := _text(properties, number))
        ),
        "attachment without a name",
    )
    content = properties.get(_FILE, b"")
    if isinstance(content, bytes) and content:
        mail.add_attachment(content, name, depth)
    else:
        mail.leave_out(f"{name}: only a link, or an embedded object")


def _storage_properties(file: CompoundFile, folder: str) -> dict[int, bytes | str]:
    properties: dict[int, bytes | str] = {}
    prefix = f"{folder}__substg1.0_"
    for path in file.streams:
        tag = path.removeprefix(prefix)
        if len(tag) != 8 or not path.startswith(prefix):
            continue
        number, kind = int(tag[:4], 16), tag[4:].upper()
        if kind in ("001F", "001E", "0102"):
            value = file.read(path)
            properties[number] = value.decode("utf-16-le", "replace") if kind == "001F" else value
    fixed = file.read(f"{folder}__properties_version1.0")
    # The header is 32 bytes long for the message itself, 24 for an embedded one, 8 for an attachment.
    for start in range(len(fixed) % 16, len(fixed) - 15, 16):
        kind, number = struct.unpack_from("<HH", fixed, start)
        if kind in (3, 64):
            properties.setdefault(number, fixed[start + 8 : start + 16])
    return properties


def _header(properties: Properties) -> dict[str, str]:
    return {
        "Subject": _text(properties, _SUBJECT),
        "From": _person(properties, _SENDER, _SENDER_SMTP, _SENDER_ADDRESS),
        "To": _text(properties, _TO),
        "Cc": _text(properties, _CC),
        "Date": _date(properties.get(_SENT)),
    }


def _add_body(properties: Properties, mail: Collector) -> None:
    body = _text(properties, _BODY)
    html, rtf = properties.get(_HTML), properties.get(_RTF)
    if body.strip():
        if not mail.has(body):
            mail.add(body)
    elif isinstance(html, str) and html:
        mail.add_file(html.encode(), "body.html", HTML, "utf-8")
    elif html:
        mail.add_file(html, "body.html", HTML, _charset(properties.get(_INTERNET_CODE_PAGE, b"")))
    elif isinstance(rtf, bytes) and rtf:
        mail.add_file(decompressed(rtf), "body.rtf", RTF)


def _charset(code_page: bytes | str) -> str | None:
    page = int.from_bytes(code_page[:4], "little") if isinstance(code_page, bytes) else 0
    return (_CHARSETS.get(page) or f"cp{page}") if page else None


def _text(properties: Properties, number: int) -> str:
    value = properties.get(number, "")
    if isinstance(value, bytes):
        value = (
            decode(value.rstrip(b"\0"), _charset(properties.get(_CODE_PAGE, b""))).text
            if value.strip(b"\0")
            else ""
        )
    return value.rstrip("\0").strip()


def _date(value: bytes | str | None) -> str:
    """Return a FILETIME, tenths of microseconds since 1601, as ISO 8601."""
    if not isinstance(value, bytes) or len(value) < 8:
        return ""
    microseconds = int.from_bytes(value[:8], "little") // 10
    try:
        return (
            f"{datetime(1601, 1, 1) + timedelta(microseconds=microseconds):%Y-%m-%dT%H:%M:%S}+00:00"
        )
    except OverflowError:
        return ""


def _read_tnef(data: bytes, mail: Collector, depth: int, *, has_header: bool) -> dict[str, str]:
    message: dict[int, bytes | str] = {}
    attachments: list[dict[int, bytes | str]] = []
    for kind, value in _tnef_attributes(data):
        match kind:
            case 0x8004:
                message[_SUBJECT] = value
            case 0x800C:
                message[_BODY] = value
            case 0x9003:
                message |= _mapi_properties(value)
            case 0x9002 if len(attachments) < _MAX_ATTACHMENTS:
                attachments.append({})
            case 0x800F if attachments:
                attachments[-1][_FILE] = value
            case 0x8010 if attachments:
                attachments[-1][_SHORT_FILE_NAME] = value
            case 0x9005 if attachments:
                stated = _mapi_properties(value)
                # The file itself comes in an attribute of its own; here it may be an embedded message.
                attachments[-1] |= {
                    n: v for n, v in stated.items() if n != _FILE or _FILE not in attachments[-1]
                }
    header = _header(message)
    if has_header:
        mail.add_message(header, depth)
    _add_body(message, mail)
    for attachment in attachments:
        content = attachment.get(_FILE, b"")
        # An embedded message begins with the identifier of its interface.
        if isinstance(content, bytes) and content[16:20] == _TNEF:
            if not mail.is_exhausted(depth + 1):
                _read_tnef(content[16:], mail, depth + 1, has_header=True)
        else:
            _add_attachment(attachment, mail, depth)
    return header


def _tnef_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 6
    while position + 9 <= len(data):
        kind, _, length = struct.unpack_from("<HHI", data, position + 1)
        yield kind, data[position + 9 : position + 9 + length]
        position += 11 + length


def _mapi_properties(data: bytes) -> dict[int, bytes | str]:
    """Return the text and binary values of a list of properties, up to the first one that cannot be read."""
    properties: dict[int, bytes | str] = {}
    position = 4
    try:
        while position + 4 <= len(data):
            kind, number = struct.unpack_from("<HH", data, position)
            position += 4
            if number >= 0x8000:
                position = _skip_name(data, position)
            is_list, kind = bool(kind & 0x1000), kind & 0xFFF
            if kind in _FIXED and not is_list:
                properties[number] = data[position : position + max(_FIXED[kind], 4)]
                position += max(_FIXED[kind], 4)
                continue
            is_counted = is_list or kind in (0x0D, 0x1E, 0x1F, 0x102)
            count = struct.unpack_from("<I", data, position)[0] if is_counted else 1
            position += 4
            for _ in range(count):
                if kind in _FIXED:
                    position += max(_FIXED[kind], 4)
                    continue
                length = struct.unpack_from("<I", data, position)[0]
                value = data[position + 4 : position + 4 + length]
                if position > len(data):
                    return properties
                position += 4 + length + -length % 4
                if not is_list:
                    properties[number] = (
                        value.decode("utf-16-le", "replace") if kind == 0x1F else value
                    )
    except struct.error:
        pass
    return properties


def _skip_name(data: bytes, position: int) -> int:
    kind, length = struct.unpack_from("<II", data, position + 16)
    return position + 24 + (length + -length % 4 if kind else 0)
