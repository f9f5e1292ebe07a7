"""Mails: subjects, people, texts and attachments, in the order of the mail; what is not read is recorded."""

from __future__ import annotations

import base64
import contextlib
import struct
from email.message import EmailMessage
from typing import Any

import pytest

from resources.errors import ParseError
from resources.parsing import parse_document
from resources.parsing.compressed_rtf import decompressed
from tests.support.parsed import (
    ENGLISH,
    OLE,
    docx,
    paragraph,
    parse,
)


def mail(subject: str, body: str, sender: str = "Ada <ada@example.org>") -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"] = subject, sender
    message.set_content(body)
    return message


def test_the_title_of_a_mail_is_its_subject() -> None:
    mail = f"From: Ada <ada@example.org>\nTo: Bob <bob@example.org>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\n{ENGLISH}\n"
    document = parse(mail, "a.eml")
    assert (document.title, document.author) == ("Grüße", "Ada")
    assert ENGLISH in document.text


def test_the_messages_of_a_digest_keep_subject_sender_and_order() -> None:
    digest = (
        "Content-Type: multipart/digest; boundary=b\nSubject: Weekly digest\nFrom: Robot <r@example.org>\n\n"
        "--b\n\nSubject: First tender\nFrom: Ida <ida@example.org>\n\nOffers until Friday.\n"
        "--b\nContent-Type: message/rfc822\n\nSubject: Second strike\nFrom: Ole <ole@example.org>\n\nExpect delays.\n"
        "--b--\n"
    )
    document = parse(digest, "a.eml")
    assert document.title == "Weekly digest"
    assert document.text.split("\n\n")[2:] == [
        *("## First tender", "**From**: Ida <ida@example.org>", "Offers until Friday."),
        *("## Second strike", "**From**: Ole <ole@example.org>", "Expect delays."),
    ]


def test_mails_inside_of_mails_and_attachments_are_read_in_order() -> None:
    inner = mail("Inner subject", "Inner body", "Ida <ida@example.org>")
    inner.add_attachment("a;b\nx;y\n", subtype="csv", filename="inner.csv")
    outer = mail("Outer subject", "Outer body")
    outer.add_attachment(inner)
    outer.add_attachment(
        docx(paragraph("Attached report")),
        maintype="application",
        subtype="octet-stream",
        filename="Bericht für Ida.docx",
    )
    outer.add_attachment(
        b"\x89PNG\r\n\x1a\n" + bytes(40), maintype="image", subtype="png", filename="logo.png"
    )
    document = parse_document(outer.as_bytes(), "a.eml")
    parts = (
        *("Outer subject", "Outer body", "## Inner subject", "Ida <ida@example.org>", "Inner body"),
        *("### inner.csv", "a: x; b: y", "## Bericht für Ida.docx", "Attached report"),
    )
    places = [document.text.index(part) for part in parts]
    assert places == sorted(places)
    assert document.metadata["left_out"] == ["logo.png: images are not read: .png"]


def test_an_attached_mail_file_is_read_like_a_mail() -> None:
    outer = mail("Outer", "Body")
    inner = mail("Saved before", "Inner body").as_bytes()
    outer.add_attachment(inner, maintype="application", subtype="octet-stream", filename="old.eml")
    assert "## Saved before\n\n**From**: Ada" in parse_document(outer.as_bytes(), "a.eml").text
    # Some servers encode it, although the standard does not allow it.
    encoded = base64.encodebytes(inner).decode()
    text = (
        "Content-Type: multipart/mixed; boundary=b\nSubject: Outer\n\n--b\nContent-Type: message/rfc822\n"
        f"Content-Transfer-Encoding: base64\n\n{encoded}--b--\n"
    )
    assert "## Saved before" in parse(text, "a.eml").text


def test_the_plain_version_is_read_unless_it_is_a_stub() -> None:
    message = mail("S", ENGLISH * 4)
    message.add_alternative(f"<p>{ENGLISH}</p><p>only in HTML</p>", subtype="html")
    assert "only in HTML" not in parse_document(message.as_bytes(), "a.eml").text
    message = mail("S", "Your program cannot show this mail.")
    message.add_alternative("<p>The <b>text</b> itself</p>", subtype="html")
    assert "The *text* itself" in parse_document(message.as_bytes(), "a.eml").text.replace(
        "**", "*"
    )


def test_files_and_invitations_of_the_version_that_is_not_read_are_read() -> None:
    text = "The plain version of the text, long enough to be no stub. " * 5
    rich = (
        "--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: text/html\n\n<p>rich</p>\n"
        "--c\nContent-Type: text/csv; name=data.csv\nContent-Disposition: attachment\n\na;b\nx;y\n--c--\n"
    )
    invitation = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Review\nLOCATION:Room 5\nEND:VEVENT\nEND:VCALENDAR\n"
    calendar = f"--b\nContent-Type: text/calendar; method=REQUEST\n\n{invitation}"
    message = (
        "Subject: Invitation\nContent-Type: multipart/mixed; boundary=a\n\n--a\n"
        f"Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n{text}\n{rich}{calendar}--b--\n"
        f"--a\nContent-Type: text/calendar; name=invite.ics\n\n{invitation}--a--\n"
    )
    document = parse(message, "a.eml")
    assert "rich" not in document.text
    parts = document.text.split("\n\n")[2:]
    assert parts[:3] == ["## data.csv", "a: x; b: y", "SUMMARY: Review\nLOCATION: Room 5"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("application/pkcs7-mime; name=smime.p7m", "smime.p7m: encrypted, or sealed"),
        ("multipart/encrypted; boundary=b", "an encrypted text"),
    ],
)
def test_encrypted_parts_are_left_out_by_their_name(kind: str, reason: str) -> None:
    part = "\n--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b--\n"
    document = parse(f"Subject: S\nContent-Type: {kind}\n\n{part}", "a.eml")
    assert document.text == "**Subject**: S"
    assert f"'{reason}" in str(document.metadata["left_out"])


def test_the_header_of_a_mail_may_stand_behind_a_mark_or_an_empty_line() -> None:
    for start in ("\ufeff", "\n", "\r\n"):
        assert parse(f"{start}Subject: Late\n\n{ENGLISH}\n", "a.eml").title == "Late"


def test_wrapped_lines_of_flowed_text_are_joined() -> None:
    text = (
        "Subject: S\nContent-Type: text/plain; format=flowed\n\nOne long \nline.\nNext\n-- \nAda\n"
    )
    assert parse(text, "a.eml").text.endswith("One long line.\nNext\n-- \nAda")


def test_the_charset_of_a_part_is_used_and_raw_headers_are_guessed() -> None:
    head = "Subject: Gruß aus Köln\nContent-Type: text/plain; charset=koi8-r\n\n".encode()
    document = parse_document(head + "Привет".encode("koi8-r"), "a.eml")
    assert (document.title, document.text.split("\n\n")[-1]) == ("Gruß aus Köln", "Привет")


@pytest.mark.parametrize("codec", ["cp932", "utf-8", "iso2022_jp"])
def test_raw_names_of_attachments_and_raw_subjects_are_decoded(codec: str) -> None:
    data = (
        "Subject: 会議のお知らせ\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n"
        'Content-Disposition: attachment; filename="資料の一覧.txt"\n\nKormoran\n--b--\n'
    ).encode(codec)
    document = parse_document(data, "a.eml")
    assert document.title == "会議のお知らせ"
    assert document.text.endswith("## 資料の一覧.txt\n\nKormoran")


@pytest.mark.parametrize("kind", ["delivery-status", "disposition-notification", "feedback-report"])
def test_the_fields_of_reports_are_read(kind: str) -> None:
    report = "Final-Recipient: rfc822; ada@example.org\nDisposition: displayed"
    data = f"Subject: Read\nContent-Type: message/{kind}\n\n{report}\n"
    assert parse_document(data.encode(), "a.eml").text.endswith(report)


def test_a_mailbox_is_read_message_by_message() -> None:
    mbox = (
        "From ada@example.org Mon Jan  5 10:00:00 2026\nSubject: One\nFrom: Ada <ada@example.org>\n\nBody 1\n>From here on\n\n"
        "From bob@example.org Tue Jan  6 10:00:00 2026\nSubject: Two\nFrom: Bob <bob@example.org>\n\nFrom time to time\n"
    )
    document = parse(mbox, "list-archive.mbox")
    assert document.title == "One"
    assert document.text == (
        "## One\n\n**From**: Ada <ada@example.org>\n\nBody 1\nFrom here on\n\n"
        "## Two\n\n**From**: Bob <bob@example.org>\n\nFrom time to time"
    )


def test_nesting_is_limited_and_the_limit_is_recorded() -> None:
    message = mail("level 30", "deepest")
    for level in range(29, -1, -1):
        outer = mail(f"level {level}", f"body {level}")
        outer.add_attachment(message)
        message = outer
    document = parse_document(message.as_bytes(), "a.eml")
    assert "body 10" in document.text and "body 11" not in document.text
    assert document.metadata["left_out"] == ["messages nested deeper than 10"]
    bomb = "Content-Type: multipart/mixed; boundary=b0\n\n" + "".join(
        f"--b{n}\nContent-Type: multipart/mixed; boundary=b{n + 1}\n\n" for n in range(3000)
    )
    with pytest.raises(ParseError):
        parse(bomb, "a.eml")


def test_parts_are_limited_and_the_limit_is_recorded() -> None:
    parts = "".join(f"--b\nContent-Type: text/plain\n\nnote {n}.\n" for n in range(1200))
    document = parse(f"Content-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n", "a.eml")
    assert "note 900." in document.text and "note 1100." not in document.text
    assert "parts beyond the first 1,000 (" in str(document.metadata["left_out"])


def tnef(*attributes: tuple[int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<BHHI", 2 if kind in (0x9002, 0x800F, 0x8010) else 1, kind, 0, len(value))
        + value
        + b"\0\0"
        for kind, value in attributes
    )
    return b"\x78\x9f\x3e\x22\0\0" + body


def test_winmail_is_read() -> None:
    winmail = tnef(
        (0x8004, b"Minutes\0"),
        (0x800C, b"The body of the minutes\0"),
        (0x9002, bytes(14)),
        (0x8010, b"plan.txt\0"),
        (0x800F, b"The plan of the harbour"),
    )
    alone = parse_document(winmail, "winmail.dat")
    assert (alone.title, alone.text.split("\n\n")[1]) == ("Minutes", "The body of the minutes")
    outer = mail("Minutes", "The body of the minutes")
    outer.add_attachment(winmail, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    text = parse_document(outer.as_bytes(), "a.eml").text
    assert text.count("The body of the minutes") == 1
    assert text.endswith("## plan.txt\n\nThe plan of the harbour")


def compound_file(streams: dict[str, bytes]) -> bytes:
    """An OLE container of these streams, in sectors of 512 bytes; the streams of a storage share a prefix."""
    end, none = 0xFFFFFFFE, 0xFFFFFFFF
    # Name, kind, first child, next sibling, start, size of each entry.
    entries: list[list[Any]] = [["Root Entry", 5, none, none, end, 0]]
    folders = {"": 0}
    sectors: list[bytes] = []
    table: list[int] = []

    def add_sectors(data: bytes) -> int:
        start, count = len(sectors), max(-(-len(data) // 512), 1)
        sectors.extend(data[n * 512 : n * 512 + 512].ljust(512, b"\0") for n in range(count))
        table.extend([*range(start + 1, start + count), end])
        return start

    def add_entry(folder: str, name: str, kind: int, data: bytes) -> int:
        parent = folders[folder]
        start = add_sectors(data) if kind == 2 else 0
        entries.append([name, kind, none, entries[parent][2], start, len(data)])
        entries[parent][2] = len(entries) - 1
        return len(entries) - 1

    for path, data in streams.items():
        folder = ""
        for name in path.split("/")[:-1]:
            if f"{folder}{name}/" not in folders:
                folders[f"{folder}{name}/"] = add_entry(folder, name, 1, b"")
            folder += f"{name}/"
        add_entry(folder, path.split("/")[-1], 2, data)
    directory = b"".join(
        name.encode("utf-16-le").ljust(64, b"\0")
        + struct.pack("<HBBIII", 2 * len(name) + 2, kind, 1, none, sibling, child)
        + bytes(36)
        + struct.pack("<IQ", start, size)
        for name, kind, child, sibling, start, size in entries
    )
    first_directory = add_sectors(directory)
    table_sector = len(sectors)
    table.append(0xFFFFFFFD)
    sectors.append(struct.pack(f"<{len(table)}I", *table).ljust(512, b"\xff"))
    # All streams are larger than the limit for small ones, which is 0.
    header = OLE[:8] + bytes(16) + struct.pack("<HHHHH", 62, 3, 0xFFFE, 9, 6) + bytes(10)
    header += struct.pack("<IIIIIIIII", 1, first_directory, 0, 0, end, 0, end, 0, table_sector)
    return header.ljust(512, b"\xff") + b"".join(sectors)


def message_streams(folder: str, subject: str, body: str, sender: str) -> dict[str, bytes]:
    texts = {"0037": subject, "1000": body, "0C1A": sender}
    return {
        f"{folder}__properties_version1.0": bytes(32),
        **{f"{folder}__substg1.0_{n}001F": text.encode("utf-16-le") for n, text in texts.items()},
    }


def test_attachments_of_outlook_messages_are_read() -> None:
    first, second = "__attach_version1.0_#00000000/", "__attach_version1.0_#00000001/"
    file = compound_file(
        {
            **message_streams("", "Outer subject", "Outer body", "Ada"),
            **message_streams(
                f"{first}__substg1.0_3701000D/", "Inner subject", "Inner body", "Ida"
            ),
            f"{first}__properties_version1.0": bytes(8),
            f"{second}__properties_version1.0": bytes(8),
            f"{second}__substg1.0_3707001F": "plan.txt".encode("utf-16-le"),
            f"{second}__substg1.0_37010102": ENGLISH.encode() * 20,
        }
    )
    document = parse_document(file, "a.msg")
    assert (document.title, document.author) == ("Outer subject", "Ada")
    parts = (
        "Outer body",
        "## Inner subject\n\n**From**: Ida",
        "Inner body",
        "## plan.txt",
        ENGLISH,
    )
    places = [document.text.index(part) for part in parts]
    assert places == sorted(places)
    # As the attachment of a mail.
    outer = mail("Mail", "Body")
    outer.add_attachment(file, maintype="application", subtype="vnd.ms-outlook", filename="a.msg")
    text = parse_document(outer.as_bytes(), "a.eml").text
    assert "## Outer subject" in text and "### Inner subject" in text and "plan.txt" in text


def test_a_damaged_outlook_message_fails_with_a_reason() -> None:
    file = compound_file(message_streams("", "S", ENGLISH * 50, "Ada"))
    for end in (520, 700, 1500, len(file) - 600):
        with contextlib.suppress(ParseError):
            parse_document(file[:end], "a.msg")


def test_compressed_rtf() -> None:
    # The example of the specification.
    data = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af3206865"
        "6c090020627705b06c647d0a800fa0"
    )
    assert decompressed(data) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    with pytest.raises(ParseError):
        decompressed(b"\xff" * 40)
