"""Presentations: every word of a slide once, in the order of the slides, with its notes and its number."""

from __future__ import annotations

from resources.parsing import parse_document
from tests.support.office_files import line, open_document, shape, slides
from tests.support.parsed import ENGLISH


def test_slides_come_in_the_order_in_which_they_are_shown_with_their_notes() -> None:
    notes = f"<p:notes><p:cSld><p:spTree>{shape(line('Bregenz failed'), 'body')}{shape(line('9'), 'sldNum')}</p:spTree></p:cSld></p:notes>"
    document = parse_document(
        slides(
            shape(line("Second"), "title") + shape(line(ENGLISH)),
            shape(line("First"), "title") + shape(line("Body")),
            order=(2, 1),
            parts={"notesSlide1": notes},
        ),
        "a.pptx",
    )
    assert document.text.split("\n\n") == [
        "## First",
        "Body",
        "## Second",
        ENGLISH,
        "Notes: Bregenz failed",
    ]
    assert document.title == "First"
    assert document.metadata["slides"] == 2
    assert document.metadata["page_starts"] == [0, document.text.index("## Second")]


def test_all_text_of_a_slide_is_read_once() -> None:
    table = "".join(
        f"<a:tr>{''.join(f'<a:tc><a:txBody>{line(cell)}</a:txBody></a:tc>' for cell in row)}</a:tr>"
        for row in (("Tariff", "Fee"), ("Family", "38|40"))
    )
    broken = "<a:p><a:r><a:t>Pump</a:t></a:r><a:br/><a:r><a:t>500&#9;bar</a:t></a:r></a:p>"
    formula = (
        "<a:p><mc:AlternateContent><mc:Choice><m:oMath><m:r><m:t>x=1</m:t></m:r></m:oMath></mc:Choice>"
        "<mc:Fallback><a:r><a:t>picture</a:t></a:r></mc:Fallback></mc:AlternateContent></a:p>"
    )
    content = (
        shape(
            "<a:p><a:r><a:rPr b='1'/><a:t>Fen</a:t></a:r><a:r><a:t>ster</a:t></a:r></a:p>", "title"
        )
        + shape(line("One") + line("Two"), "body")
        + f"<p:grpSp><p:grpSp>{shape(line('In groups'))}</p:grpSp></p:grpSp>"
        + f"<p:graphicFrame><a:graphic><a:tbl>{table}</a:tbl></a:graphic></p:graphicFrame>"
        + f"<mc:AlternateContent><mc:Choice>{shape(broken)}</mc:Choice><mc:Fallback>{shape(broken)}</mc:Fallback></mc:AlternateContent>"
        + shape(formula)
        + f"<p:cxnSp><p:txBody>{line('On a line')}</p:txBody></p:cxnSp>"
        + '<p:pic><p:nvPicPr><p:cNvPr id="4" name="n" descr="A red pump"/></p:nvPicPr></p:pic>'
        + '<p:graphicFrame><dgm:relIds r:dm="data1"/></p:graphicFrame>'
        + shape(line("Footer"), "ftr")
        + shape(line("7"), "sldNum")
    )
    diagram = f"<dgm:dataModel><dgm:t>{line('Order')}{line('Deliver')}</dgm:t></dgm:dataModel>"
    document = parse_document(
        slides(
            content, shape(line("Footer"), "ftr") + shape(line("End")), parts={"data1": diagram}
        ),
        "a.pptx",
    )
    assert document.text.split("\n\n") == [
        "## Fenster",
        "- One\n- Two",
        "In groups",
        "| Tariff | Fee |\n| --- | --- |\n| Family | 38\\|40 |",
        "Pump 500 bar",
        "x=1",
        "On a line",
        "A red pump",
        "- Order\n- Deliver",
        "Footer",
        "## End",
    ]


def test_hidden_slides_and_comments_are_left_out_and_recorded() -> None:
    document = parse_document(
        slides(
            shape(line("Shown"), "title"),
            "hidden:" + shape(line("Backup"), "title"),
            shape(line("Last"), "title"),
            parts={"comments1": "<p:cmLst><p:cm/><p:cm/></p:cmLst>"},
        ),
        "a.pptx",
    )
    assert document.text == "## Shown\n\n## Last"
    assert document.metadata["left_out"] == ["hidden slides: 2", "2 comments"]
    # The third slide keeps its number.
    assert document.metadata["page_starts"] == [0, 10, 10]


def test_an_open_document_presentation_is_read() -> None:
    frame = '<draw:frame presentation:class="{}"><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>'
    hidden = (
        '<style:style style:name="H"><style:drawing-page-properties presentation:visibility="hidden"/>'
        "</style:style>"
    )
    page = "<draw:page{}>{}</draw:page>"
    document = parse_document(
        open_document(
            page.format(
                "",
                frame.format("title", "Ferry<text:line-break/>plan")
                + frame.format("outline", "Left lane")
                + f"<presentation:notes>{frame.format('notes', 'Bregenz')}</presentation:notes>",
            )
            + page.format(' draw:style-name="H"', frame.format("title", "Backup")),
            "presentation",
            automatic=hidden,
        ),
        "a.odp",
    )
    assert document.text.split("\n\n") == ["## Ferry plan", "Left lane", "Notes: Bregenz"]
    assert document.metadata["left_out"] == ["hidden slides: 2"]
    assert document.metadata["slides"] == 2


def test_line_breaks_in_the_form_of_office_are_breaks() -> None:
    text = parse_document(slides(shape(line("North_x000B_gate _x005F_x000B_"))), "a.pptx").text
    assert text == "## North gate _x000B_"
