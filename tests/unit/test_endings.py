"""Files that were cut short while they were written, in formats that have a fixed end."""

from __future__ import annotations

import io
import json
import time
import zipfile

import pytest

from resources.sources.endings import SMALL, missing_end


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("word/document.xml", "<w:document>" + "text " * 100 + "</w:document>")
    return buffer.getvalue()


ROWS = json.dumps([{"id": n, "text": "a [b] {c}"} for n in range(9)], indent=1).encode()
#: Name -> a whole file, and the length at which it is cut.
WHOLE: dict[str, tuple[bytes, int]] = {
    "a.docx": (archive(), 200),
    "a.epub": (archive(), 300),
    "a.pdf": (b"%PDF-1.7\n" + b"1 0 obj\n" * 50 + b"%%EOF\n", 200),
    "a.json": (ROWS, 90),
    "b.json": (b'{"a": {"b": 1}, "c": true}\n', 14),
    "c.json": (b'{"a": {"b": 1}, "c": true}', 23),
    "d.ipynb": (b'{"cells": [{"source": "x"}]}', 22),
    "e.json": (ROWS.replace(b"a [b]", b"x" * SMALL), 2 * SMALL),
    "a.jsonl": (b'{"id": 1}\n{"id": 2, "b": "x"}\n', 20),
    "b.ndjson": (b'{"id": 1}\n{"id": 2}', 17),
    "a.csv": (b'id,body\n1,"one, ""two""\nthree"\n', 20),
    "b.csv": (b'id;body\n1;"one; two"\n', 15),
    "c.tsv": (b'id\tbody\n1\t"one"\n', 13),
    "a.xml": (b"<?xml version='1.0'?><a><b>text</b></a>\n", 28),
    "a.svg": (b"<svg><text>x</text></svg>", 12),
    **{
        f"a{suffix}": (b"<doc><p>text</p></doc>", 12)
        for suffix in (".xlf", ".opml", ".dbk", ".nxml")
    },
    "a.md": ("Größe und Höhe: 水".encode(), len("Größe und Höhe: 水".encode()) - 1),
    "b.txt": ("Größe 🗼".encode(), len("Größe 🗼".encode()) - 2),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_without_its_end_is_recognized(name: str) -> None:
    data, cut = WHOLE[name]
    assert missing_end(name, data) == ""
    assert missing_end(name, data[:cut]) != ""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.md", b""),
        ("a.json", b" "),
        ("a.json", b"[1, 2, // a comment\n 3]"),
        ("a.json", b"5"),
        ("a.csv", b'size\n5" wide\n'),
        ("a.csv", b'a,b\n1,2"'),
        ("a.jsonl", b"not json\n"),
        ("a.md", b"# Half a text, without a line end"),
        # Latin-1: its last letter looks like the first byte of a character in UTF-8.
        ("a.txt", "Größe é".encode("latin-1")),
        ("a.txt", "caf\u00e9".encode("latin-1")),
        ("a.plist", b"bplist00\xd1\x01\x02Qa"),
        ("a.owl", b"Prefix: : <urn:a>\nClass: A"),
        ("a.xml", "<a>text</a>\n".encode("utf-16")),
        ("a.bin", b"\xff\xd8\xff\xe0"),
        ("a.html", b"<p>no closing tag"),
    ],
)
def test_a_whole_file_is_whole(name: str, data: bytes) -> None:
    assert missing_end(name, data) == ""


def test_hostile_contents_take_no_longer_than_others() -> None:
    started = time.perf_counter()
    for name, data in (
        ("a.json", b"[" * SMALL),
        ("b.json", b'{"a":' * 150_000),
        ("a.csv", b'"' * (SMALL - 1)),
        ("a.csv", b'"",' * 300_000),
        ("a.jsonl", b"[" * (3 * SMALL)),
        ("a.txt", b"\xc3" * (4 * SMALL)),
    ):
        missing_end(name, data)
    assert time.perf_counter() - started < 5
