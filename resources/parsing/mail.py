"""Mail → Markdown: each message with its subject, people, text and attachments, in the order of the mail.

Messages inside a mail (digests, forwarded mails, bounces) are read like the mail itself, attachments by the readers of
their formats. What is not read is listed in `left_out`. Outlook's own containers are in `outlook`.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterator
from email import policy
from email.message import Message
from email.parser import BytesParser
from typing import Any

from resources.errors import ParseError
from resources.parsing.calendar_text import calendar_text
from resources.parsing.decoding import decode
from resources.parsing.formats import HTML, MAIL, Format, detect_format
from resources.parsing.mail_headers import file_name, header_field
from resources.parsing.outlook import is_outlook, read_outlook

#: Limits for hostile mails: messages in messages, parts, and characters of text.
_MAX_DEPTH, _MAX_PARTS, _MAX_CHARACTERS = 10, 1000, 20_000_000
#: A plain text this short may only say that the reader should open the HTML version.
_STUB_LENGTH = 200
_MESSAGES = tuple(
    f"message/{kind}" for kind in ("rfc822", "global", "news", "partial", "external-body")
)
_PEOPLE = ("From", "To", "Cc", "Date")
_RESOURCES = re.compile(
    "image/|font/|audio/|video/|text/css|[a-z]+/(?:x-)?javascript|application/(?:x-)?font"
)
_SEALED = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_MBOX_LINE = re.compile(
    rb"^From [^\n]{0,200}?\d\d:\d\d[^\n]{0,50}\n(?=[A-Za-z][\w-]*:)", re.MULTILINE
)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)

#: Reads a file in the given format (detected by name if None) and the encoding stated for it. Raises ParseError.
ReadFile = Callable[[bytes, str, "Format | None", "str | None"], str]


class MailReader:
    """Collects the Markdown blocks of one file of mail, its properties, and the omissions."""

    def __init__(self, read_file: ReadFile) -> None:
        self.blocks: list[str] = []
        self._read_file = read_file
        self._left_out: Counter[str] = Counter()
        self._parts = self._characters = 0

    def read(self, data: bytes) -> dict[str, str]:
        """Read a mail and return its header, or read a mailbox of several mails."""
        messages = _messages(data)
        if len(messages) == 1:
            return self._read_message(_parse(messages[0]), 0)
        for message in messages:
            self._read_message(_parse(message), 1)
        return {}

    def left_out(self) -> list[str]:
        return [
            f"{what} ({count} times)" if count > 1 else what
            for what, count in self._left_out.items()
        ]

    def add_message(self, header: dict[str, str], depth: int) -> None:
        """Add the lines that open a message: below a heading, unless it is the mail itself."""
        subject = header.get("Subject", "")
        if depth:
            self.add(f"{'#' * min(depth + 1, 6)} {subject or 'Message without a subject'}")
        lines = [] if depth or not subject else [f"**Subject**: {subject}"]
        lines += [f"**{name}**: {header[name]}" for name in _PEOPLE if header.get(name)]
        self.add("\n\n".join(lines))

    def add(self, text: str) -> None:
        text = text.strip()
        if not text:
            return
        if self._characters + len(text) > _MAX_CHARACTERS:
            self.leave_out(f"text beyond {_MAX_CHARACTERS:,} characters")
            return
        self._characters += len(text)
        self.blocks.append(text)

    def leave_out(self, what: str) -> None:
        self._left_out[what] += 1

    def is_exhausted(self, depth: int) -> bool:
        """Count a part, and return whether there are too many, or messages in messages."""
        self._parts += 1
        if depth > _MAX_DEPTH:
            self.leave_out(f"messages nested deeper than {_MAX_DEPTH}")
        elif self._parts > _MAX_PARTS:
            self.leave_out(f"parts beyond the first {_MAX_PARTS:,}")
        return depth > _MAX_DEPTH or self._parts > _MAX_PARTS

    def add_attachment(
        self, data: bytes, name: str, depth: int, charset: str | None = None
    ) -> None:
        """Add an attached file below a heading with its name."""
        if self.is_exhausted(depth):
            return
        try:
            if is_outlook(data):
                read_outlook(data, self, depth + 1, is_attached=True)
                return
            file_format = detect_format(data, name)
            if file_format is MAIL:
                self._read_message(_parse(data), depth + 1)
                return
            text = self._read_file(data, name, file_format, charset).strip()
        except ParseError as error:
            self.leave_out(f"{name}: {error}")
            return
        if text:
            self.add(f"{'#' * min(depth + 2, 6)} {name}\n\n{text}")

    def add_file(
        self, data: bytes, name: str, file_format: Format, charset: str | None = None
    ) -> None:
        """Add the text of a message that is stored as a file of this format."""
        self.add(self._read_file(data, name, file_format, charset))

    def has(self, text: str) -> bool:
        """Return whether the blocks contain the words of a text."""
        return _letters(text) in _letters("".join(self.blocks))

    def _read_message(self, message: Message, depth: int) -> dict[str, str]:
        header = {name: header_field(message, name) for name in ("Subject", *_PEOPLE)}
        self.add_message(header, depth)
        self._read_part(message, depth)
        return header

    def _read_part(self, part: Message, depth: int) -> None:
        if self.is_exhausted(depth):
            return
        kind, children = part.get_content_type(), _children(part)
        if part.get_content_maintype() == "message" and children:
            self._read_messages(part, children, depth)
        elif kind == "multipart/alternative" and children:
            best = self._best_alternative(children)
            self._read_part(best, depth)
            for other in children:
                if other is not best:
                    self._read_files_of(other, depth)
        elif kind == "multipart/encrypted":
            self.leave_out("an encrypted text")
        elif children:
            for child in children:
                if kind == "multipart/related" and child is not children[0] and _is_resource(child):
                    self.leave_out("an image, style or script of the text")
                else:
                    self._read_part(child, depth)
        else:
            self._read_leaf(part, depth)

    def _read_messages(self, part: Message, children: list[Message], depth: int) -> None:
        if part.get_content_type() not in _MESSAGES:
            # Fields about a delivery, a receipt or a complaint.
            self.add("\n\n".join(str(child).strip() for child in children))
            return
        encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
        for child in children:
            if encoding == "base64":
                # Not allowed for messages, but some servers do it: the parser has taken the base64 for the message.
                child = _decoded_message(child)
            self._read_message(child, depth + 1)

    def _best_alternative(self, parts: list[Message]) -> Message:
        """Return the plain text, or the last version that is read if the plain text says next to nothing."""
        plain = [part for part in parts if part.get_content_type() == "text/plain"]
        rich = [part for part in parts if part.get_content_type() != "text/plain"]
        readable = [part for part in rich if _is_readable(part)]
        if plain and (len(_payload(plain[0]).strip()) > _STUB_LENGTH or not readable):
            return plain[0]
        return (readable or rich or plain)[-1]

    def _read_files_of(self, alternative: Message, depth: int) -> None:
        """Read what is attached to a version of the text that is not read, and an invitation in a calendar's form."""
        for part in _walk(alternative):
            if part.is_multipart():
                continue
            if (
                part.get_content_type() == "text/calendar"
                or part.get_content_disposition() == "attachment"
                or (file_name(part) and not _is_resource(part))
            ):
                self._read_leaf(part, depth)

    def _read_leaf(self, part: Message, depth: int) -> None:
        data, name = _payload(part), file_name(part)
        kind = part.get_content_type()
        charset = part.get_content_charset()
        if not data.strip():
            return
        if kind in _SEALED:
            self.leave_out(f"{name or kind}: encrypted, or sealed by its signature (S/MIME)")
        elif name or part.get_content_disposition() == "attachment":
            self.add_attachment(data, name or f"attachment without a name ({kind})", depth, charset)
        elif kind == "text/html":
            self._try(lambda: self.add_file(data, "body.html", HTML, charset), kind)
        elif kind in ("text/css", "text/javascript"):
            self.leave_out("an image, style or script of the text")
        elif kind == "text/calendar":
            self._try(lambda: self._add_once(calendar_text(decode(data, charset).text)), kind)
        elif part.get_content_maintype() == "text":
            self._try(lambda: self.add(_flowed(part, decode(data, charset).text)), kind)
        else:
            self.add_attachment(data, f"part of the type {kind}", depth, charset)

    def _add_once(self, text: str) -> None:
        # Outlook adds an invitation as a version of the text and as a file.
        if not self.has(text):
            self.add(text)

    def _try(self, add: Callable[[], None], kind: str) -> None:
        try:
            add()
        except ParseError as error:
            self.leave_out(f"part of the type {kind}: {error}")


def read_mail(
    data: bytes, file_format: Format, read_file: ReadFile
) -> tuple[str, dict[str, Any], list[str]]:
    """Return Markdown, properties, and the omissions. Raises ParseError if the file is damaged."""
    mail = MailReader(read_file)
    header = mail.read(data) if file_format is MAIL else read_outlook(data, mail, 0)
    properties = {
        "subject": header.get("Subject", ""),
        "from_email": header.get("From", ""),
        "created_at": header.get("Date", ""),
    }
    return "\n\n".join(mail.blocks), properties, mail.left_out()


def _messages(data: bytes) -> list[bytes]:
    """Return the messages of a mailbox (mbox), below lines such as `From ada@example.org Mon …`, or the only one."""
    if b"\0" in data[:100]:
        # Saved by an editor as UTF-16.
        data = decode(data).text.encode()
    data = data.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
    if not _MBOX_LINE.match(data[:2000]):
        return [data]
    starts = [line.start() for line in _MBOX_LINE.finditer(data)]
    return [
        _QUOTED_FROM.sub(rb"\1", data[data.index(b"\n", start) + 1 : end])
        for start, end in zip(starts, [*starts[1:], len(data)], strict=True)
    ]


def _parse(data: bytes) -> Message:
    try:
        return BytesParser(policy=policy.compat32).parsebytes(data)
    except RecursionError:
        raise ParseError("the parts of the mail are nested too deeply") from None


def _children(part: Message) -> list[Message]:
    payload = part.get_payload()
    return (
        [child for child in payload if isinstance(child, Message)]
        if isinstance(payload, list)
        else []
    )


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


def _payload(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _decoded_message(message: Message) -> Message:
    try:
        return _parse(base64.b64decode(message.as_bytes(), validate=False))
    except (binascii.Error, ValueError):
        return message


def _is_resource(part: Message) -> bool:
    return bool(_RESOURCES.match(part.get_content_type()))


def _is_readable(part: Message) -> bool:
    kinds = {child.get_content_type() for child in _walk(part)}
    return "text/html" in kinds


def _walk(part: Message) -> Iterator[Message]:
    stack = [part]
    while stack:
        part = stack.pop()
        yield part
        stack += _children(part)


def _flowed(part: Message, text: str) -> str:
    """Join the lines of a text that its program has wrapped (`format=flowed`)."""
    if str(part.get_param("format", "")).lower() != "flowed":
        return text
    deletes = str(part.get_param("delsp", "")).lower() == "yes"
    return re.sub(r"(?<!^--) \r?\n(?![>\s-])", "" if deletes else " ", text, flags=re.MULTILINE)
