"""Parsing: encodings, repair, formats, titles, languages and reasons, on files made here and, where it is there, on
the shared corpora. Whether libraries read every feature of their formats is not asked here.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.chunking import split
from resources.errors import ParseError
from resources.parsing import PARSER_VERSION, ParsedDocument, parse_document
from resources.parsing import language as languages
from resources.parsing.decoding import clean, decode
from resources.parsing.function_words import FUNCTION_WORDS
from resources.parsing.language import detect_language, own_language
from resources.parsing.pages import page_starts
from resources.parsing.right_to_left import is_visual, logical

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the shared corpora are not at {SHARED}"
)

ENGLISH = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all."
TEXTS = {
    "de": "Größe, Maße und Übergänge über die Brücke müssen wir später noch einmal gründlich prüfen.",
    "fr": "Le café était très agréable pendant l'été, et nous avons décidé de déjeuner après la réunion.",
    "ja": "これは文字コードを判定するための短い文章です。日本語の文書を正しく読み取れることを確かめます。",
    "ko": "이것은 문자 인코딩을 판별하기 위한 짧은 문장입니다. 한국어 문서를 바르게 읽는지 확인합니다.",
    "zh": "这是一段用来判断字符编码的短文。我们希望系统能够正确地读取中文文档，并且保留全部内容。",
    "ru": "Это короткий текст, по которому определяется кодировка; документ должен быть прочитан верно.",
    "ar": "هذا نص قصير نستخدمه للتأكد من أن النظام يقرأ المستندات العربية بشكل صحيح دون أخطاء.",
    "fa": "این یک متن کوتاه است که برای بررسی خواندن درست اسناد فارسی به کار می‌رود و چیز دیگری نیست.",
    "el": "Αυτό είναι ένα σύντομο κείμενο για να ελέγξουμε την κωδικοποίηση των εγγράφων.",
}


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def zipped(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def docx(body: str, title: str = "") -> bytes:
    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
            f'<Relationship Id="r1" Type="{office}" Target="word/document.xml"/></Relationships>',
            "word/document.xml": f'<w:document xmlns:w="{main}"><w:body>{body}</w:body></w:document>',
            "docProps/core.xml": f'<cp:coreProperties xmlns:cp="{package}/metadata/core-properties" '
            f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title>'
            "<dc:creator>Ada Lovelace</dc:creator></cp:coreProperties>",
        }
    )


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(operators: str) -> bytes:
    """One page with the given content stream."""
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(operators)}>>\nstream\n{operators}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    xref = f"xref\n0 6\n0000000000 65535 f \n{table}trailer\n<</Size 6/Root 1 0 R>>\n"
    return f"{out}{xref}startxref\n{len(out)}\n%%EOF\n".encode()


def parse(text: str, key: str) -> ParsedDocument:
    return parse_document(text.encode(), key)


# --- encodings and repair -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "codec"),
    [
        *(
            (language, codec)
            for language in TEXTS
            for codec in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
        ),
        *((language, "utf-16-le") for language in ("de", "fr")),
        *(("de", codec) for codec in ("cp1252", "utf-16-be", "utf-32-le")),
        *(("ja", codec) for codec in ("cp932", "euc_jp", "iso2022_jp")),
        *(("ko", codec) for codec in ("cp949", "johab", "iso2022_kr")),
        *(("zh", codec) for codec in ("gbk", "gb18030")),
        *(("ru", codec) for codec in ("cp1251", "koi8_r", "cp866", "iso8859_5")),
        ("fr", "cp1252"),
        ("ar", "cp1256"),
        ("el", "cp1253"),
    ],
)
def test_text_is_decoded_exactly(language: str, codec: str) -> None:
    document = parse_document(TEXTS[language].encode(codec), "notes.txt")
    assert document.text == unicodedata.normalize("NFC", TEXTS[language])
    assert document.encoding is not None


def test_a_declared_encoding_is_believed_where_it_fits() -> None:
    page = (
        "<html><head><meta charset='iso-8859-2'></head><body><p>Zażółć gęślą jaźń</p></body></html>"
    )
    assert "Zażółć gęślą jaźń" in parse_document(page.encode("iso8859_2"), "a.html").text
    assert (
        "Zażółć gęślą jaźń" in parse_document(page.encode("utf-8"), "a.html").text
    )  # declared wrongly


def test_one_stray_byte_does_not_change_the_encoding_of_the_file() -> None:
    data = (TEXTS["zh"] * 3).encode() + b"\xff" + TEXTS["zh"].encode()
    assert parse_document(data, "a.txt").text == TEXTS["zh"] * 3 + "\ufffd" + TEXTS["zh"]


def test_mojibake_is_undone_and_only_where_it_is() -> None:
    good = "Curly “quotes”, ligature ﬁ, fullwidth Ａ, &amp; entity, naïve café"
    assert clean(good) == good
    assert (
        clean(f"{good}\n" + "Größe — schön".encode().decode("cp1252")) == f"{good}\nGröße — schön"
    )


@given(st.text())
def test_clean_text_is_what_postgresql_takes_and_stays(text: str) -> None:
    once = clean(text)
    assert clean(once) == once or "\ufffd" in once
    assert unicodedata.is_normalized("NFC", once)
    assert not [c for c in once if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    once.encode()


@given(
    st.text(
        st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufeff\x1b"), min_size=1
    )
)
def test_utf_8_is_always_read_as_such(text: str) -> None:
    assert decode(text.encode()) == (text, "utf-8") or "\x00" in text


def test_newlines_and_controls() -> None:
    assert (
        parse_document(b"one\r\ntwo\rthree\x0cfour\x07\tfive\n", "a.txt").text
        == "one\ntwo\nthree\nfour\tfive"
    )


# --- formats --------------------------------------------------------------------------------------------------------


def test_markdown_keeps_its_text_and_gives_its_title() -> None:
    text = "```sh\n# not a title\n```\n\n# The *real* [title](x.md) {#anchor}\n\n" + ENGLISH
    document = parse(text, "docs/some_file.md")
    assert (document.title, document.text, document.markdown) == ("The real title", text, True)
    assert (document.language, document.encoding, document.mime_type) == (
        "en",
        "utf-8",
        "text/markdown",
    )


@pytest.mark.parametrize(
    ("text", "key", "title"),
    [
        ("---\ntitle: 'From the front'\nauthor: Ada\n---\n# Heading\n", "a.md", "From the front"),
        ("Setext title\n===\n\ntext", "a.md", "Setext title"),
        ("no heading", "guide/getting-started_now.md", "getting started now"),
        ("no heading", "guide/index.md", "guide"),
        ("=====\nTitle\n=====\n\ntext", "a.rst", "Title"),
        ("= Title\n\ntext", "a.adoc", "Title"),
        (
            r"\documentclass{article}\title{On Sets}\begin{document}x\end{document}",
            "a.tex",
            "On Sets",
        ),
        ("x", "$.md", "$"),
        ("x", "Gr%C3%B6%C3%9Fe.txt", "Größe"),
        ("# " + "long " * 500, "a.md", ("long " * 500)[:1000].strip()),
    ],
)
def test_title(text: str, key: str, title: str) -> None:
    assert parse(text, key).title == title


def test_front_matter_names_the_author() -> None:
    assert parse("---\ntitle: T\nauthor: Ada\n---\ntext", "a.md").author == "Ada"


@pytest.mark.parametrize(
    ("front", "category", "tags"),
    [
        ("category: Research, Development\ntags: [a, 'b c', \"d\"]", "Research, Development", ["a", "b c", "d"]),
        ("tags: a, b", "", ["a", "b"]),
        ("tag: a\ncategories:\n  - News\n  - Old", "News", ["a"]),
        ("tags:\n- a\n- \"b: c\"\n-\n- 天文\ntitle: T", "", ["a", "b: c", "天文"]),
        ("tags:\ntitle: T", "", []),
        (f"tags: {'x' * 300}\ncategory: {'y' * 300}", "y" * 100, ["x" * 255]),
    ],
)  # fmt: skip
def test_front_matter_names_category_and_tags(front: str, category: str, tags: list[str]) -> None:
    document = parse(f"---\n{front}\n---\ntext", "a.md")
    assert (document.category, document.tags) == (category, tags)


def test_without_front_matter_nothing_is_said_of_category_and_tags() -> None:
    document = parse("# Title\n\ntags: [a]\n", "a.md")
    assert (document.category, document.tags) == (None, None)


def test_table_rows_name_their_columns() -> None:
    document = parse('Team;City;Cups\nBlues;"St. Louis";1\nFlyers;;2\n', "cups.csv")
    assert document.text == "Team: Blues; City: St. Louis; Cups: 1\nTeam: Flyers; Cups: 2"
    assert not document.markdown
    assert parse("1,2\n3,4\n", "n.csv").text == "1 | 2\n3 | 4"
    assert parse("a\tb\nx\ty, z\n", "n.tsv").text == "a: x; b: y, z"


def test_json_becomes_lines_that_name_their_path() -> None:
    assert (
        parse('[{"a": {"b": 1, "c": [1, 2]}}, {"a": null, "t": "x"}]', "x.json").text
        == "a.b: 1\na.c: 1, 2\n\nt: x"
    )
    assert parse('{"n": 1}\n{"n": 2}\n', "x.jsonl").text == "n: 1\n\nn: 2"
    assert "\ud800" not in parse(r'{"broken": "\ud800 half a pair"}', "x.json").text
    with pytest.raises(ParseError, match="JSON is not valid"):
        parse("{ nonsense", "x.json")


def test_xml_keeps_text_and_follows_nothing(tmp_path: Path) -> None:
    document = parse("<r><title>Feed</title><p>Some <b>mixed</b> text</p></r>", "a.xml")
    assert (document.text, document.title) == ("title: Feed\nSome mixed text", "Feed")
    secret = tmp_path / "secret.txt"
    secret.write_text("do not read me")
    bomb = f'<!DOCTYPE r [<!ENTITY x SYSTEM "{secret.as_uri()}">]><r><a>seen</a><b>&x;</b></r>'
    assert "do not read me" not in parse(bomb, "a.xml").text
    assert "broken but here" in parse("<r><a>broken but here</r>", "a.xml").text


def test_subtitles_are_what_is_said() -> None:
    text = "WEBVTT\n\nNOTE by me\n\n1\n00:00:01.000 --> 00:00:02.000 align:start\n<v Ann>Hello there\n\n2\n00:03.000 --> 00:04.000\nBye"
    assert parse(text, "a.vtt").text == "Hello there\nBye"


def test_menus_of_links_go_and_links_in_sentences_stay() -> None:
    menu = "".join(f"<li><a href='/{n}'>Topic number {n}</a></li>" for n in range(20))
    prose = f"<p>{ENGLISH} <a href='/fox'>Foxes</a> jump.</p>" * 8
    page = parse(f"<html><body><ul>{menu}</ul>{prose}</body></html>", "a.html").text
    assert "Topic number" not in page
    assert page.count("Foxes") == 8
    assert "Topic number 7" in parse(f"<html><body><ul>{menu}</ul></body></html>", "a.html").text


def test_html_is_its_main_content() -> None:
    page = f"""<!doctype html><html lang="en"><head><title>A &amp; B</title><meta name="author" content="Ada">
    <script>var x = "hidden"</script></head><body><nav>Menu</nav><main><h1>Head</h1><p>{ENGLISH}</p>
    <pre><code>a = b_c
# same block</code></pre><img src="http://127.0.0.1:9/pixel.png" alt="a picture"></main><footer>Imprint</footer></body>"""
    document = parse(page, "page")  # no suffix: decided by content
    assert (document.title, document.author, document.mime_type) == ("A & B", "Ada", "text/html")
    assert (
        document.markdown and "# Head" in document.text and "a = b_c\n# same block" in document.text
    )
    assert "a picture" in document.text
    for noise in ("Menu", "Imprint", "hidden", "pixel.png", "title:"):
        assert noise not in document.text


def test_a_table_of_one_cell_is_layout() -> None:
    page = f"<table><tr><td><h1>Head</h1><p>{ENGLISH} a|b</p></td></tr></table><table><tr><td>x</td><td>y</td></tr></table>"
    document = parse(
        f"<body>{page}<table><tr><th>one</th></tr><tr><td>two</td></tr></table></body>", "a.html"
    )
    assert document.text.startswith("Head") and f"{ENGLISH} a|b\n" in document.text
    assert "| x | y |" in document.text and "| one |" in document.text


def test_html_furniture_may_be_nested_or_never_closed() -> None:
    page = "<body><nav>a<nav>b</nav>c</nav><p>kept</p><footer>d</footer><p>too</p><aside>open<p>end</p>"
    assert parse(page, "a.html").text.split() == ["kept", "too", "open", "end"]


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
    ],
)
def test_nothing_takes_quadratic_time(data: str, key: str) -> None:
    start = time.process_time()
    with contextlib.suppress(ParseError):
        parse(data, key)
    assert (
        time.process_time() - start < 3
    )  # measured: below 0.5 s; quadratic ones took 18 and 140 s


def test_word_gives_headings_title_and_author() -> None:
    data = docx(paragraph("Chapter", "Heading1") + paragraph(ENGLISH), "A Report")
    for key in ("a.docx", "named-wrongly.doc", "no-suffix"):
        document = parse_document(data, key)
        assert (document.title, document.author, document.language) == (
            "A Report",
            "Ada Lovelace",
            "en",
        )
        assert ENGLISH in document.text and "Chapter" in document.text
    assert parse_document(docx(paragraph(ENGLISH), "Untitled"), "my_notes.docx").title == "my notes"


def test_pdf_text_and_pages() -> None:
    document = parse_document(pdf(f"BT /F1 12 Tf 20 700 Td ({ENGLISH}) Tj ET"), "paper.pdf")
    assert ENGLISH in document.text
    assert document.metadata["pages"] == 1


def test_pages_are_found_again_in_the_text() -> None:
    pages = [
        f"Running head\nPage {n}: the {n * 7} stones of quarry {n * 13} were counted."
        for n in range(1, 9)
    ]
    text = "\n\n".join(f"**Page {n}:** {page[21:]}" for n, page in enumerate(pages, 1))
    starts = page_starts(text, pages)
    assert [text[start:].split(":")[0] for start in starts] == [f"**Page {n}" for n in range(1, 9)]
    lost = [*pages[:3], "A page of which nothing is in the text at all", *pages[3:]]
    assert page_starts(text, lost) == [*starts[:3], starts[3], *starts[3:]]
    assert page_starts(text, []) == [] and page_starts("", pages) == [0] * 8


def test_lines_drawn_from_left_to_right_are_read_from_right_to_left() -> None:
    read = "تعتبر لغة Python و R من الأدوات القوية، وهي سريعة.\nتحسين الإنتاجية في 2024 ممكن."
    drawn = ".سريعة وهي ،القوية الأدوات من R و Python لغة تعتبر\n.ممكن 2024 في الإنتاجية تحسين"
    assert is_visual([drawn]) and not is_visual([read]) and not is_visual([ENGLISH])
    assert logical(drawn) == read.replace("Python و R", "Python و R")


def test_rtf_names_its_code_page_by_its_fonts() -> None:
    said = "日本語の文書".encode("cp932")
    escaped = "".join(f"\\'{byte:02x}" for byte in said)
    rtf = f"{{\\rtf1\\ansi\\deff0{{\\fonttbl{{\\f0\\fnil\\fcharset128 Gothic;}}}}\\f0 {escaped}\\par}}"
    assert parse(rtf, "a.rtf").text == "日本語の文書"


def test_mail_is_headed_by_its_subject() -> None:
    mail = f"From: Ada <ada@example.org>\nTo: Bob <bob@example.org>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\n{ENGLISH}\n"
    document = parse(mail, "a.eml")
    assert (document.title, document.author) == ("Grüße", "Ada")
    assert ENGLISH in document.text


def test_unknown_suffix_with_text_is_text() -> None:
    assert parse(ENGLISH, "LICENSE").mime_type == "text/plain"
    assert parse(ENGLISH, "thing.xyz").text == ENGLISH


# --- reasons --------------------------------------------------------------------------------------------------------


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
        (b"PK\x05\x06 but no more" + bytes(20), "a.docx", "does not begin like one"),
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
def test_what_cannot_be_read_says_why(data: bytes, key: str, reason: str) -> None:
    with pytest.raises(ParseError, match=reason) as caught:
        parse_document(data, key)
    assert "\n" not in str(caught.value) and "Error:" not in str(caught.value)


@given(
    st.binary(max_size=400),
    st.sampled_from(("a.md", "a.csv", "a.json", "a.xml", "a.html", "a.eml", "a.rtf", "x")),
)
def test_any_bytes_give_a_document_or_a_reason(data: bytes, key: str) -> None:
    try:
        document = parse_document(data, key)
    except ParseError as error:
        assert str(error)
    else:
        assert document.text.strip() and document.title and "\0" not in document.text


# --- language -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", TEXTS)
def test_language(language: str) -> None:
    assert detect_language(TEXTS[language]) == language


SENTENCES = {
    "nl": "Dit is een korte tekst over de taal van een document, en of die goed wordt herkend.",
    "es": "Este es un texto breve para comprobar que el idioma de un documento se reconoce bien.",
    "it": "Questo è un testo breve per verificare che la lingua di un documento sia riconosciuta.",
    "pl": "To jest krótki tekst, który ma sprawdzić, czy język dokumentu jest dobrze rozpoznawany.",
    "da": "Dette er en kort tekst om sproget i et dokument, og om det bliver genkendt for alvor.",
    "id": "Ini adalah teks singkat untuk memeriksa apakah bahasa sebuah dokumen dikenali dengan baik.",
    "de": "Die Dokumentation beschreibt, wie man mit der API in an sich leeren Tabellen so etwas findet.",
    "uk": "Це короткий текст, щоб перевірити, чи правильно розпізнається мова документа та її назва.",
    "ur": "یہ ایک مختصر متن ہے جس سے یہ دیکھا جاتا ہے کہ دستاویز کی زبان ٹھیک پہچانی جاتی ہے۔",
}


@pytest.mark.parametrize(
    ("language", "text"),
    [
        *SENTENCES.items(),
        ("en", "No, we only support storing metadata in another database."),
        ("en", "This command is an alias of another one; view its documentation."),
    ],
)
def test_languages_of_one_script_are_told_apart(language: str, text: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize(
    ("document", "piece", "own"),
    [
        ("en", ENGLISH, None),
        ("ja", ENGLISH, "en"),
        ("en", TEXTS["ja"], "ja"),
        ("zh", TEXTS["ja"], "ja"),
        ("ja", TEXTS["ja"], None),
        ("en", TEXTS["fa"], "fa"),
        ("en", TEXTS["fr"], "fr"),
        ("fr", ENGLISH, "en"),
        ("de", TEXTS["ru"], "ru"),
        ("de", ENGLISH, "en"),
        ("pt", SENTENCES["es"], "es"),
        ("ru", SENTENCES["uk"], "uk"),
        ("fa", TEXTS["ar"], "ar"),
        ("ar", TEXTS["fa"], "fa"),
        ("fa", SENTENCES["ur"], "ur"),
        ("ja", "pip install --upgrade package && package serve --host 0.0.0.0 --port 8000", None),
        ("en", "| Größe | Maße |\n| --- | --- |\n| 3 | 4 |", None),
        (None, TEXTS["ja"], None),
    ],
)
def test_a_piece_has_a_language_of_its_own_where_it_surely_is_another(
    document: str | None, piece: str, own: str | None
) -> None:
    assert own_language(piece, document) == own


@needs_shared
def test_pieces_of_translated_corpora_are_of_their_document_s_language() -> None:
    pieces = others = 0
    for language, text in shared_texts("corpora/fastapi-docs", "*/**/*.md"):
        for chunk in split(text, markdown=True):
            pieces += 1
            others += own_language(chunk.content, language) is not None
    assert others <= 0.01 * pieces > 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The samples that the detector is asked for: each takes as long as chunking and storing the piece."""
    detector, samples = languages._detector(), []

    class Counted:
        def __getattr__(self, name: str) -> Callable[[str], object]:
            def ask(sample: str) -> object:
                samples.append(sample)
                return getattr(detector, name)(sample)

            return ask

    monkeypatch.setattr(languages, "_detector", Counted)
    return samples


@pytest.mark.parametrize("code", ["fr", "ru", "ar", "fa", *SENTENCES])
def test_a_piece_that_shows_its_document_s_language_is_not_asked_for(
    code: str, asked: list[str]
) -> None:
    assert own_language((TEXTS | SENTENCES)[code], code) is None
    assert asked == []


def test_a_piece_without_function_words_of_any_language_is_not_asked_for(asked: list[str]) -> None:
    piece = "bafede gijuko lamoni pesatu vizowe dubana " * 20
    assert own_language(piece, "id") is None
    assert asked == []


@needs_shared
@pytest.mark.parametrize(("code", "folder"), [("ar", "ar-xquad"), ("fa", "fa-pquad")])
def test_few_pieces_of_articles_are_asked_for(code: str, folder: str, asked: list[str]) -> None:
    articles = sorted((SHARED / "qa" / folder / "articles").glob("*.txt"))[:40]
    pieces = [
        chunk.content
        for article in articles
        for chunk in split(article.read_text(encoding="utf-8"), markdown=False)
    ]
    assert not any(own_language(piece, code) for piece in pieces)
    assert len(asked) <= 0.1 * len(pieces) > 0


def test_function_words_are_known_of_every_language_that_is_told_apart() -> None:
    from lingua import Language

    told_apart = (getattr(Language, name).iso_code_639_1 for name in languages.LANGUAGES.split())
    assert set(FUNCTION_WORDS) == {code.name.lower() for code in told_apart}


def test_menus_before_the_text_do_not_count() -> None:
    menu = "".join(
        f"- [Strona numer {i} po polsku](https://example.org/strona/{i})\n" for i in range(200)
    )
    assert detect_language(menu + TEXTS["fr"]) == "fr"


def test_language_is_that_of_the_prose_not_of_the_code() -> None:
    code = (
        "```python\n"
        + "for the_value in these_values: print('which of the values is this?')\n" * 30
        + "```\n"
    )
    assert parse(code + TEXTS["de"], "a.md").language == "de"
    assert (
        parse(
            f"# `the_title`\n\n{TEXTS['ja']} `option --this` https://example.org/the/and/of", "a.md"
        ).language
        == "ja"
    )


def test_too_little_prose_has_no_language() -> None:
    assert parse("x = 1", "a.txt").language is None
    assert parse("42 17 3.5", "a.txt").language is None


def test_language_can_be_forced() -> None:
    assert parse_document(ENGLISH.encode(), "a.txt", language="la").language == "la"


def test_threads_give_what_one_thread_gives() -> None:
    inputs = [(text * 3).encode() for text in TEXTS.values()] * 8
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: parse_document(data, "a.md"), inputs))
    assert together == [parse_document(data, "a.md") for data in inputs]


def test_import_is_light_and_the_version_names_the_libraries() -> None:
    heavy = ("kreuzberg", "ftfy", "lingua", "charset_normalizer")
    script = f"import sys, resources.parsing; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
    assert all(name.split("_")[0] in PARSER_VERSION for name in heavy)


# --- shared corpora -------------------------------------------------------------------------------------------------


def shared_texts(folder: str, pattern: str) -> Iterator[tuple[str, str]]:
    for path in sorted((SHARED / folder).glob(pattern)):
        yield path.relative_to(SHARED / folder).parts[0].replace("zh-hant", "zh"), path.read_text()


@needs_shared
@pytest.mark.parametrize(
    ("folder", "least"), [("corpora/fastapi-docs", 0.99), ("corpora/tldr-multi", 0.99)]
)
def test_language_of_translated_corpora(folder: str, least: float) -> None:
    right = [
        detect_language(text) == language for language, text in shared_texts(folder, "*/**/*.md")
    ]
    assert len(right) > 500
    assert sum(right) / len(right) >= least


@needs_shared
@pytest.mark.parametrize("name", ["ar-xquad", "en-xquad", "fa-pquad", "ja-jsquad", "zh-xquad"])
def test_language_of_articles(name: str) -> None:
    texts = [path.read_text() for path in (SHARED / "qa" / name / "articles").glob("*.txt")]
    found = Counter(detect_language(text) for text in texts if len(text) > 200)
    assert found[name[:2]] >= 0.98 * found.total() > 0


@needs_shared
def test_every_office_file_is_parsed_or_refused_with_a_reason() -> None:
    parsed, refused = 0, {}
    for path in sorted((SHARED / "corpora/office-pdf-mixed").rglob("*.*")):
        try:
            document = parse_document(path.read_bytes(), path.name)
        except ParseError as error:
            refused[path.name] = str(error)
        else:
            parsed += 1
            assert document.text.strip() and document.title
    assert parsed >= 315, refused
    assert not [reason for reason in refused.values() if "Error" in reason]


@needs_shared
def test_hostile_files_never_do_anything_else() -> None:
    for path in sorted((SHARED / "hostile").rglob("*.*")):
        try:
            parse_document(path.read_bytes(), path.name)
        except ParseError as error:
            assert "\n" not in str(error)
