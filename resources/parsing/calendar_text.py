"""Calendars (iCalendar) and contacts (vCard) → lines that name their values, with folded lines made whole."""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator

from resources.parsing.decoding import decode

#: A line goes on in the next one behind a blank, wherever a word may be cut.
_FOLD = re.compile(r"\r?\n[ \t]")
_LINE = re.compile(r"(?:[\w-]+\.)?([A-Za-z-]+)((?:;(?:\"[^\"\n]*+\"|[^\":\n])*+)?):(.*)")
_NAME = re.compile(r";CN=(?:\"([^\"\n]*)\"|([^;:\n]*))", re.IGNORECASE)
_CHARSET = re.compile(r";CHARSET=([\w-]+)", re.IGNORECASE)
_ZONE = re.compile(r";TZID=\"?/?([\w/+-]+)", re.IGNORECASE)
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)\d\d(Z?))?")
_ESCAPED = re.compile(r"\\([\\,;nN])")
#: Properties that are data for programs.
_TECHNICAL = frozenset(
    (
        *("VERSION", "PRODID", "CALSCALE", "METHOD", "UID", "DTSTAMP", "SEQUENCE", "CREATED"),
        *("LAST-MODIFIED", "TRANSP", "CLASS", "PRIORITY", "ACTION", "TRIGGER", "REV", "N", "END"),
        *("PHOTO", "LOGO", "KEY", "SOUND", "ATTACH", "RECURRENCE-ID", "REQUEST-STATUS"),
    )
)
_SKIPPED_PARTS = ("VTIMEZONE", "VALARM")
_PEOPLE = ("ORGANIZER", "ATTENDEE")


def calendar_text(text: str) -> str:
    """Return a paragraph for each entry. Without time zones, alarms, identifiers, pictures and extensions (`X-`)."""
    lines: list[str] = []
    skipped = ""
    for name, parameters, value in _properties(text):
        if name in ("BEGIN", "END"):
            part = value.strip().upper()
            if name == "END" and part == skipped:
                skipped = ""
            elif name == "BEGIN" and not skipped and part in _SKIPPED_PARTS:
                skipped = part
            elif lines and lines[-1]:
                lines.append("")
        elif skipped or name in _TECHNICAL or name.startswith("X-"):
            continue
        elif shown := _shown(name, parameters, value):
            lines.append(f"{name}: {shown}")
    # A file in another form.
    return "\n".join(lines).strip() or text


def _properties(text: str) -> Iterator[tuple[str, str, str]]:
    waiting = ""
    for line in _FOLD.sub("", text).split("\n"):
        line = waiting + line
        waiting = ""
        if not (match := _LINE.match(line)):
            continue
        name, parameters, value = match.groups()
        if "QUOTED-PRINTABLE" in parameters.upper():
            if value.endswith("=") and len(line) < 100_000:
                waiting = line[:-1]
                continue
            charset = _CHARSET.search(parameters)
            value = decode(
                quopri.decodestring(value.encode()), charset[1] if charset else None
            ).text
        yield name.upper(), parameters, value


def _shown(name: str, parameters: str, value: str) -> str:
    value = _ESCAPED.sub(lambda sign: "\n" if sign[1] in "nN" else sign[1], value.strip())
    value = " ".join(value.split())
    if date := _DATE.fullmatch(value):
        year, month, day, hour, minute, utc = date.groups()
        zone = _ZONE.search(parameters)
        time = f"T{hour}:{minute}{utc}{f' {zone[1]}' if zone else ''}" if hour else ""
        return f"{year}-{month}-{day}{time}"
    if name in _PEOPLE and (person := _NAME.search(parameters)):
        address = value.removeprefix("mailto:").removeprefix("MAILTO:")
        return f"{person[1] or person[2]} <{address}>"
    # Structured values: parts of an address or of an organization.
    return re.sub(r"\s*;[;\s]*", ", ", value).strip(", ") if name in ("ADR", "ORG") else value
