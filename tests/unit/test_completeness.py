"""No format loses text: the words of each file's own text nodes are those of its parsed text."""

from __future__ import annotations

import pytest

from resources.parsing import parse_document
from resources.parsing.completeness import LOSS_THRESHOLD, measure_loss
from resources.parsing.formats import detect_format
from resources.parsing.source_text import source_text
from tests.support.completeness import losses
from tests.support.extent import only_in_soak
from tests.support.office_files import line, open_document, run, shape, slides, word
from tests.support.parsed import SHARED, TEXTS, needs_shared, zipped

_PAGE = "<html><body><main><h1>{0}</h1><p>{1}<br>{2}</p><ul><li>{3}</li></ul></main></body></html>"
_CELLS = "".join(
    f'<table:table-cell office:value-type="string"><text:p>{{{n}}}</text:p></table:table-cell>'
    for n in range(4)
)


def _epub(page: str) -> bytes:
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'<container version="1.0" xmlns="{container}"><rootfiles><rootfile '
            'full-path="c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
            "c.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/><manifest><item id="a" '
            'href="a.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>',
            "a.xhtml": page.replace(
                "<html>", '<html xmlns="http://www.w3.org/1999/xhtml">'
            ).replace("<br>", "<br/>"),
        }
    )


def _xlsx(texts: list[str]) -> bytes:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    relationships = f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{relations}/{{}}" Target="{{}}"/></Relationships>'
    cells = "".join(f'<c t="inlineStr"><is><t>{text}</t></is></c>' for text in texts)
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
            "_rels/.rels": relationships.format("officeDocument", "xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relationships.format(
                "worksheet", "worksheets/sheet1.xml"
            ),
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData><row>{cells}</row></sheetData></worksheet>',
        }
    )


def _files(texts: list[str]) -> dict[str, bytes]:
    """The same four texts in a file of each format with text nodes."""
    page = _PAGE.format(*texts)
    table = f"<table:table><table:table-row>{_CELLS}</table:table-row></table:table>"
    frame = "<draw:frame><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
    mail = "Subject: {}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n{}\n{}\n{}\n{}\n"
    return {
        "a.docx": word("".join(f"<w:p>{run(text)}<w:r><w:tab/></w:r></w:p>" for text in texts)),
        "a.pptx": slides("".join(shape(line(text)) for text in texts)),
        "a.xlsx": _xlsx(texts),
        "a.odt": open_document("".join(f"<text:p>{text}<text:tab/></text:p>" for text in texts)),
        "a.ods": open_document(table.format(*texts), "spreadsheet"),
        "a.odp": open_document(
            f"<draw:page>{''.join(map(frame.format, texts))}</draw:page>", "presentation"
        ),
        "a.epub": _epub(page),
        "a.html": page.encode(),
        "a.eml": mail.format("=?utf-8?q?Plan?=", *texts).encode(),
    }


@pytest.mark.parametrize("key", _files(["", "", "", ""]))
def test_every_format_with_text_nodes_has_a_reference_and_loses_nothing(key: str) -> None:
    texts = [TEXTS["de"], TEXTS["ja"], TEXTS["ru"], "Pump 500 costs 38 francs."]
    data = _files(texts)[key]
    source = source_text(data, detect_format(data, key))
    assert "Übergänge" in source and "ドを判定" in source and "Pump 500" in source
    loss = measure_loss(source, parse_document(data, key).text + "Plan")
    assert (loss.missing, loss.glued) == ({}, {})


def test_the_comparison_finds_missing_repeated_and_glued_words_but_no_format() -> None:
    source = "The article price of pump 500 is 38 francs, and the fee is due in thirty days."
    assert measure_loss(source, source.replace("pump", "**pu**mp").replace("-", "\\-")).share == 0
    loss = measure_loss(source, source.replace("article price", "articleprice"))
    assert set(loss.glued) == {"article", "price"} and loss.share == 0
    loss = measure_loss(source, source.replace("the fee", ""))
    assert loss.missing == {"the": 1, "fee": 1} and LOSS_THRESHOLD < loss.share < 0.15
    assert measure_loss(TEXTS["ja"] * 2, TEXTS["ja"]).share > 0.4
    assert measure_loss("short", "").share == 0


def test_a_comparison_of_any_text_takes_linear_time() -> None:
    words = " ".join(f"word{n}" for n in range(100_000))
    assert measure_loss(words, words.replace(" ", "x")).share > 0.9


def test_a_loss_is_recorded_with_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    data = word(
        f"<w:p>{run('The words of this paragraph are all read, and the box is lost.')}</w:p>"
    )
    assert "text_lost" not in parse_document(data, "a.docx").metadata
    # A fault of the reader, injected: it loses a header.
    monkeypatch.setattr("resources.parsing.office.word.margins", lambda *_: ([], []))
    header = f"<w:hdr><w:p>{run('Kestrel Hydraulics')}</w:p></w:hdr>"
    body = f"<w:p>{run('The words of this paragraph are all read.')}</w:p>"
    lossy = word(
        f'{body}<w:sectPr><w:headerReference r:id="header1"/></w:sectPr>', {"header1": header}
    )
    assert parse_document(lossy, "a.docx").metadata["text_lost"] == pytest.approx(0.34, abs=0.02)


@needs_shared
@pytest.mark.parametrize("step", [6, *only_in_soak(1)])
def test_no_office_file_loses_more_than_a_hundredth_of_its_letters(step: int) -> None:
    # Sheets and mails leave out more on purpose than their reference knows.
    suffixes = ("docx", "pptx", "odt", "odp", "epub")
    root = SHARED / "corpora/office-pdf-mixed"
    paths = [path for suffix in suffixes for path in sorted(root.rglob(f"*.{suffix}"))[::step]]
    lossy = {
        file.path.name: file.loss
        for file in losses(paths, parse_document)
        if file.loss.share > 0.01
    }
    assert lossy == {}
