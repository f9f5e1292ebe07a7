"""Parsing: formats, titles, front matter and error reasons, on handmade files and, if present, the shared corpora.

Not whether the libraries read every feature of their formats.
"""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import ParseError
from resources.parsing import PARSER_VERSION, parse_document
from tests.support.extent import only_in_soak
from tests.support.parsed import (
    ENGLISH,
    OLE,
    SHARED,
    TEXTS,
    docx,
    needs_shared,
    paragraph,
    parse,
    pdf,
    zipped,
)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ("<nav>" * 30_000 + "x", "a.html"),
        ("![" * 30_000, "a.html"),
        ("<main>" * 20_000 + "x", "a.html"),
        ("[a](" * 50_000, "a.md"),
        ("<table><tr><td>" + "&nbsp;" * 50_000, "a.html"),
        ("<!--" * 50_000, "a.md"),
        ("{{" * 50_000, "a.md"),
        ("<!--" * 50_000, "a.xml"),
        ("[" * 200_000, "a.json"),
        ("<a>" * 100_000, "a.xml"),
        ("Ã©" * 100_000, "a.txt"),
        ('{"a": 1,\n' * 20_000, "a.jsonl"),
        ("[1, /*" * 50_000, "a.json"),
        ('a,"b\n' * 20_000, "a.csv"),
        ("<a b='" + "word" * 50_000 + "'/>", "a.xml"),
        ("1\n00:01 --> " * 20_000, "a.srt"),
        ("BEGIN:VCARD\nNOTE;QUOTED-PRINTABLE:" + "x=\n" * 20_000, "a.vcf"),
        ("{\\rtf1 " + "\\'e9" * 50_000, "a.rtf"),
        ("{\\rtf1 " + "{\\f1" * 30_000, "a.rtf"),
        ("<math><svg><text>" * 20_000 + "</math></svg>", "a.html"),
        ('$RC("B:0","S:0")' + '<div hidden id="S:0">' * 20_000, "a.html"),
        ('<template id="B:0"></template>$RC("B:0","S:0")' * 10_000, "a.html"),
        ('<span class="katex-html">' * 20_000, "a.html"),
        ("<table><pre><pre></table>" * 10_000, "a.html"),
        ("//NLM//DTD J" + "<p>" * 50_000, "a.nxml"),
    ],
)
def test_no_input_takes_quadratic_time(data: str, key: str) -> None:
    start = time.process_time()
    with contextlib.suppress(ParseError):
        parse(data, key)
    # Measured: below 0.5 s; quadratic parsers took 18 and 140 s.
    assert time.process_time() - start < 3


def test_text_with_an_unknown_suffix_is_plain_text() -> None:
    assert parse(ENGLISH, "LICENSE").mime_type == "text/plain"
    assert parse(ENGLISH, "thing.xyz").text == ENGLISH


@pytest.mark.parametrize(
    ("data", "key", "reason"),
    [
        (b"", "a.md", "is empty"),
        (b" \n\n", "a.pdf", "is empty"),
        (b"\x07 \x0c \n", "a.txt", "no text"),
        (bytes(range(256)) * 8, "a.md", "binary"),
        (bytes(range(256)) * 8, "a.csv", "binary"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a.txt", "images are not read"),
        (b"\x1f\x8b\x08" + bytes(40), "a.tar.gz", r"archives are not read: \.gz"),
        (b"\x7fELF" + bytes(40), "tool", "executables are not read: no suffix"),
        (b"\0\0\0\x18ftypmp42" + bytes(40), "a.mp4", "audio and video"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", "images"),
        (zipped({"a.txt": "x"}), "a.zip", "archives are not read"),
        (bytes(range(255, 0, -1)), "part2.zip", "archives are not read"),
        (b"PK\x07\x08" + bytes(40), "a.zip", "archives in parts"),
        (OLE + b"\xec\xa5" + bytes(9) + b"\x01" + bytes(500), "a.doc", "encrypted: a password"),
        (docx(paragraph(ENGLISH))[:300], "a.docx", "damaged"),
        (b"PK\x05\x06 but no more" + bytes(20), "a.docx", "lacks the signature"),
        (b"%PDF-1.4\n" + b"nonsense " * 50, "a.pdf", "PDF file is damaged"),
        (pdf("0 0 m 10 10 l S"), "scan.pdf", "no text layer"),
        (docx(""), "a.docx", "no text"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), "a.xlsx", "encrypted: a password"),
        (
            zipped(
                {
                    "mimetype": "application/vnd.oasis.opendocument.text",
                    "META-INF/manifest.xml": "<encryption-data/>",
                }
            ),
            "a.odt",
            "encrypted: a password",
        ),
    ],
)
def test_the_error_of_an_unreadable_file_states_the_reason(
    data: bytes, key: str, reason: str
) -> None:
    with pytest.raises(ParseError, match=reason) as caught:
        parse_document(data, key)
    assert "\n" not in str(caught.value) and "Error:" not in str(caught.value)


OLE_SUFFIXES = ("doc", "ppt", "xls", "msg")


@pytest.mark.parametrize(
    "suffix",
    (
        *("pdf", "docx", "docm", "pptx", "xlsx", "xlsb", "odt", "ods", "odp", "epub", "hwpx"),
        *OLE_SUFFIXES,
    ),
)
def test_a_damaged_container_is_not_read_as_text(suffix: str) -> None:
    text = () if suffix in OLE_SUFFIXES else (b"not a container at all",)
    for data in (*text, b"\x01\x02 nor \0 this"):
        with pytest.raises(ParseError, match=rf"named \.{suffix} but lacks the signature"):
            parse_document(data, f"broken.{suffix}")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("Pose.msg", "# Position and orientation of the robot arm.\nPoint position\n"),
        ("de.msg", '::msgcat::mcset de "Open the file" "Die Datei öffnen"\n'),
        ("readme.doc", ENGLISH),
        ("slides.ppt", ENGLISH),
        ("export.xls", "name;price\nlamp;12\n"),
        ("export.xls", "name,price\nlamp,12\n"),
        ("export.xls", "Prices in May\nname\tprice\nlamp\t12\n"),
    ],
)
def test_text_under_the_suffix_of_an_ole_container_is_read(key: str, text: str) -> None:
    document = parse(text, key)
    assert (document.text, document.mime_type) == (text.strip(), "text/plain")


def test_content_that_identifies_itself_is_read_under_the_name_of_a_container() -> None:
    page = f"<html><body><p>{ENGLISH}</p></body></html>"
    assert parse(page, "saved.doc").mime_type == "text/html"
    assert parse("name\tprice\nlamp\t12\n", "export.xls").mime_type == "text/tab-separated-values"
    mail = f"MIME-Version: 1.0\nContent-Type: text/plain\nSubject: Saved\n\n{ENGLISH}\n"
    assert ENGLISH in parse(mail, "saved.doc").text


@given(
    st.binary(max_size=400),
    st.sampled_from(("a.md", "a.csv", "a.json", "a.xml", "a.html", "a.eml", "a.rtf", "x")),
)
def test_any_bytes_yield_a_document_or_a_reason(data: bytes, key: str) -> None:
    try:
        document = parse_document(data, key)
    except ParseError as error:
        assert str(error)
    else:
        assert document.text.strip() and document.title and "\0" not in document.text


def test_several_threads_yield_the_results_of_one_thread() -> None:
    inputs = [(text * 3).encode() for text in TEXTS.values()] * 8
    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(lambda data: parse_document(data, "a.md"), inputs))
    assert documents == [parse_document(data, "a.md") for data in inputs]


def test_the_version_names_the_libraries() -> None:
    for library in ("kreuzberg", "ftfy", "lingua", "charset"):
        assert library in PARSER_VERSION


#: `make test` reads every sixth file of a corpus, `make soak` all of them.
SAMPLES = [6, *only_in_soak(1)]


@needs_shared
@pytest.mark.parametrize("step", SAMPLES)
def test_office_files_are_parsed_or_fail_with_a_reason(step: int) -> None:
    parsed, reasons = 0, {}
    for path in sorted((SHARED / "corpora/office-pdf-mixed").rglob("*.*"))[::step]:
        try:
            document = parse_document(path.read_bytes(), path.name)
        except ParseError as error:
            reasons[path.name] = str(error)
        else:
            parsed += 1
            assert document.text.strip() and document.title
    assert parsed >= 315 // step - 2, reasons
    assert not [reason for reason in reasons.values() if "Error" in reason]


@needs_shared
@pytest.mark.parametrize("step", SAMPLES)
def test_hostile_files_are_parsed_or_fail_with_a_reason(step: int) -> None:
    for path in sorted((SHARED / "hostile").rglob("*.*"))[::step]:
        try:
            parse_document(path.read_bytes(), path.name)
        except ParseError as error:
            assert "\n" not in str(error)


def test_chapters_of_e_books_are_read_whatever_their_names_and_encodings() -> None:
    names = ("Kapitel%201.xhtml", "%C3%A4.xhtml", "c.html")
    chapters = (
        b"<html><head><title>t</title></head><body><p>Kormoran &nbsp; here</p></body></html>",
        "<?xml version='1.0' encoding='utf-16'?><html><body><p>Größe</p></body></html>".encode(
            "utf-16"
        ),
        "<?xml version='1.0' encoding='windows-1251'?><html><body><p>Журавль</p></body></html>".encode(
            "cp1251"
        ),
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            "<container xmlns='urn:oasis:names:tc:opendocument:xmlns:container'><rootfiles>"
            "<rootfile full-path='c.opf' media-type='application/oebps-package+xml'/></rootfiles></container>",
        )
        items = "".join(
            f"<item id='c{n}' href='{name}' media-type='application/xhtml+xml'/>"
            for n, name in enumerate(names)
        )
        spine = "".join(f"<itemref idref='c{n}'/>" for n in range(len(names)))
        book.writestr(
            "c.opf",
            f"<package xmlns='http://www.idpf.org/2007/opf' version='3.0'><manifest>{items}</manifest>"
            f"<spine>{spine}</spine></package>",
        )
        for name, chapter in zip(names, chapters, strict=True):
            book.writestr(unquote(name), chapter)
    text = parse_document(buffer.getvalue(), "a.epub").text
    assert text.split() == ["Kormoran", "here", "Größe", "Журавль"]
