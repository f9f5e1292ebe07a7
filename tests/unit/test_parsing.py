"""Parsing: formats, titles, front matter and error reasons, on handmade files and, if present, the shared corpora.

Not whether the libraries read every feature of their formats.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import ParseError
from resources.parsing import PARSER_VERSION, parse_document
from resources.parsing.pages import page_starts
from resources.parsing.right_to_left import is_visual, logical
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


def test_markdown_keeps_its_text_and_provides_the_title() -> None:
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
def test_title_comes_from_front_matter_heading_or_key(text: str, key: str, title: str) -> None:
    assert parse(text, key).title == title


@pytest.mark.parametrize(
    ("front_matter", "author"),
    [
        ("title: T\nauthor: Ada", "Ada"),
        ('authors: [Ada, "Babbage, Charles"]', "Ada, Babbage, Charles"),
        ("authors:\n  - Ada\n  - Bob <bob@example.org>", "Ada, Bob"),
        ("author:\n  name: Ada", None),
    ],
)
def test_front_matter_states_the_author(front_matter: str, author: str | None) -> None:
    assert parse(f"---\n{front_matter}\n---\ntext", "a.md").author == author


@pytest.mark.parametrize(
    ("front_matter", "category", "tags"),
    [
        ("category: Research, Development\ntags: [a, 'b c', \"d\"]", "Research, Development", ["a", "b c", "d"]),
        ("tags: a, b", "", ["a", "b"]),
        ("tag: a\ncategories:\n  - News\n  - Old", "News", ["a"]),
        ("tags:\n- a\n- \"b: c\"\n-\n- 天文\ntitle: T", "", ["a", "b: c", "天文"]),
        ("tags:\ntitle: T", "", []),
        (f"tags: {'x' * 300}\ncategory: {'y' * 300}", "y" * 100, ["x" * 255]),
    ],
)  # fmt: skip
def test_front_matter_states_category_and_tags(
    front_matter: str, category: str, tags: list[str]
) -> None:
    document = parse(f"---\n{front_matter}\n---\ntext", "a.md")
    assert (document.category, document.tags) == (category, tags)


@pytest.mark.parametrize(
    ("front_matter", "title", "tags"),
    [
        ("title: 2024-01-31\ntags: [1, 2.50, yes, null, 0x1F]", "2024-01-31", ["1", "2.50", "yes", "null", "0x1F"]),
        ("title: >-\n  two\n  lines\ntags:\n  - a\n  -   # empty\n  - b", "two lines", ["a", "b"]),
        ("Title: 'It''s' # comment\nTAGS: a", "It's", ["a"]),
        ('title: "bell \\a, nul \\0"\ntags: "a, b"', "bell , nul", ["a", "b"]),
        ("title: T\ntags: [a, [nested], {b: c}, d]\nauthor: {name: {first: Ada}}", "T", ["a", "d"]),
        ("title: &name T\ntags: !custom [a]", "T", ["a"]),
        ("title: T\n? [a, b]\n: c", "Heading", []),
        ("title: &name T\nauthor: *name\ntags: [a]", "Heading", []),
        ("title: first: second\ntags: [a]", "first: second", ["a"]),
        ("- title: T\n- tags: [a]", "Heading", []),
        ("only text", "Heading", []),
        ("# only a comment", "Heading", []),
    ],
)  # fmt: skip
def test_front_matter_is_yaml_and_has_no_fields_if_it_is_no_mapping(
    front_matter: str, title: str, tags: list[str]
) -> None:
    document = parse(f"---\n{front_matter}\n---\n# Heading\n", "a.md")
    assert (document.title, document.category, document.tags) == (title, "", tags)


def test_an_invalid_entry_of_front_matter_costs_no_other_field() -> None:
    front_matter = (
        "title: Part 2: the return\nauthor: Ada\ntags: [a, b]\nbad: [open\ncategory: news"
    )
    document = parse(f"---\n{front_matter}\n---\n# Heading\n", "a.md")
    assert (document.title, document.author) == ("Part 2: the return", "Ada")
    assert (document.tags, document.category) == (["a", "b"], "news")


@pytest.mark.parametrize("has_libyaml", [True, False])
@pytest.mark.parametrize(
    "front_matter",
    [
        "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]" for n in range(1, 30))]),
        "a: &a [*a]",
        "a: " + "[" * 50_000 + "]" * 50_000,
        "a: " + "{" * 50_000,
        "- " * 50_000,
        "? " * 50_000,
    ],
    ids=lambda value: str(value)[:12],
)
def test_front_matter_that_could_exhaust_memory_or_the_stack_has_no_fields(
    front_matter: str, has_libyaml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_libyaml:
        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    start = time.process_time()
    document = parse(f"---\n{front_matter}\n---\n# Heading\n", "a.md")
    assert (document.author, document.category, document.tags) == (None, "", [])
    assert time.process_time() - start < 3


def test_without_front_matter_category_and_tags_are_none() -> None:
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


def test_xml_keeps_text_and_loads_no_external_entity(tmp_path: Path) -> None:
    document = parse("<r><title>Feed</title><p>Some <b>mixed</b> text</p></r>", "a.xml")
    assert (document.text, document.title) == ("title: Feed\nSome mixed text", "Feed")
    secret = tmp_path / "secret.txt"
    secret.write_text("do not read me")
    bomb = f'<!DOCTYPE r [<!ENTITY x SYSTEM "{secret.as_uri()}">]><r><a>seen</a><b>&x;</b></r>'
    assert "do not read me" not in parse(bomb, "a.xml").text
    assert "broken but here" in parse("<r><a>broken but here</r>", "a.xml").text


def test_subtitles_become_the_spoken_lines() -> None:
    text = "WEBVTT\n\nNOTE by me\n\n1\n00:00:01.000 --> 00:00:02.000 align:start\n<v Ann>Hello there\n\n2\n00:03.000 --> 00:04.000\nBye"
    assert parse(text, "a.vtt").text == "Hello there\nBye"


def test_menus_of_links_are_removed_and_links_in_sentences_stay() -> None:
    menu = "".join(f"<li><a href='/{n}'>Topic number {n}</a></li>" for n in range(20))
    prose = f"<p>{ENGLISH} <a href='/fox'>Foxes</a> jump.</p>" * 8
    page = parse(f"<html><body><ul>{menu}</ul>{prose}</body></html>", "a.html").text
    assert "Topic number" not in page
    assert page.count("Foxes") == 8
    assert "Topic number 7" in parse(f"<html><body><ul>{menu}</ul></body></html>", "a.html").text


def test_html_is_reduced_to_its_main_content() -> None:
    page = f"""<!doctype html><html lang="en"><head><title>A &amp; B</title><meta name="author" content="Ada">
    <script>var x = "hidden"</script></head><body><nav>Menu</nav><main><h1>Head</h1><p>{ENGLISH}</p>
    <pre><code>a = b_c
# same block</code></pre><img src="http://127.0.0.1:9/pixel.png" alt="a picture"></main><footer>Imprint</footer></body>"""
    # Without a suffix, the content decides.
    document = parse(page, "page")
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
def test_no_input_takes_quadratic_time(data: str, key: str) -> None:
    start = time.process_time()
    with contextlib.suppress(ParseError):
        parse(data, key)
    # Measured: below 0.5 s; quadratic parsers took 18 and 140 s.
    assert time.process_time() - start < 3


def test_word_provides_headings_title_and_author() -> None:
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


def test_pdf_provides_text_and_page_count() -> None:
    document = parse_document(pdf(f"BT /F1 12 Tf 20 700 Td ({ENGLISH}) Tj ET"), "paper.pdf")
    assert ENGLISH in document.text
    assert document.metadata["pages"] == 1


def test_pages_are_located_in_the_text() -> None:
    pages = [
        f"Running head\nPage {n}: the {n * 7} stones of quarry {n * 13} were counted."
        for n in range(1, 9)
    ]
    text = "\n\n".join(f"**Page {n}:** {page[21:]}" for n, page in enumerate(pages, 1))
    starts = page_starts(text, pages)
    assert [text[start:].split(":")[0] for start in starts] == [f"**Page {n}" for n in range(1, 9)]
    with_absent_page = [*pages[:3], "A page of which nothing is in the text at all", *pages[3:]]
    assert page_starts(text, with_absent_page) == [*starts[:3], starts[3], *starts[3:]]
    assert page_starts(text, []) == [] and page_starts("", pages) == [0] * 8


def test_lines_in_visual_order_become_lines_in_logical_order() -> None:
    logical_order = (
        "تعتبر لغة Python و R من الأدوات القوية، وهي سريعة.\nتحسين الإنتاجية في 2024 ممكن."
    )
    visual_order = (
        ".سريعة وهي ،القوية الأدوات من R و Python لغة تعتبر\n.ممكن 2024 في الإنتاجية تحسين"
    )
    assert is_visual([visual_order])
    assert not is_visual([logical_order]) and not is_visual([ENGLISH])
    assert logical(visual_order) == logical_order.replace("Python و R", "Python و R")


def test_rtf_is_decoded_by_the_charset_of_its_fonts() -> None:
    escaped = "".join(f"\\'{byte:02x}" for byte in "日本語の文書".encode("cp932"))
    rtf = f"{{\\rtf1\\ansi\\deff0{{\\fonttbl{{\\f0\\fnil\\fcharset128 Gothic;}}}}\\f0 {escaped}\\par}}"
    assert parse(rtf, "a.rtf").text == "日本語の文書"


def test_the_title_of_a_mail_is_its_subject() -> None:
    mail = f"From: Ada <ada@example.org>\nTo: Bob <bob@example.org>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\n{ENGLISH}\n"
    document = parse(mail, "a.eml")
    assert (document.title, document.author) == ("Grüße", "Ada")
    assert ENGLISH in document.text


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
