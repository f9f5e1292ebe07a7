"""Handmade Word, PowerPoint and OpenDocument files, as small as their readers allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.parsed import zipped

_OFFICE = "http://schemas.openxmlformats.org/"
_RELATIONS = f"{_OFFICE}officeDocument/2006/relationships"
_NAMESPACES = " ".join(
    f'xmlns:{prefix}="{namespace}"'
    for prefix, namespace in {
        "w": f"{_OFFICE}wordprocessingml/2006/main",
        "p": f"{_OFFICE}presentationml/2006/main",
        "a": f"{_OFFICE}drawingml/2006/main",
        "c": f"{_OFFICE}drawingml/2006/chart",
        "dgm": f"{_OFFICE}drawingml/2006/diagram",
        "m": f"{_OFFICE}officeDocument/2006/math",
        "mc": f"{_OFFICE}markup-compatibility/2006",
        "r": _RELATIONS,
        "v": "urn:schemas-microsoft-com:vml",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    }.items()
)
_OPEN_NAMESPACES = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in {
        **{name: name for name in ("office", "text", "table", "style", "presentation")},
        "draw": "drawing",
        "svg": "svg-compatible",
    }.items()
)


def run(text: str, properties: str = "") -> str:
    """A run of Word."""
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def word(
    body: str,
    parts: Mapping[str, str] | None = None,
    main: str = "word/document.xml",
    files: Mapping[str, str] | None = None,
) -> bytes:
    """A Word file. `parts`: kind of a relationship, perhaps with a digit, -> content; it is the id, too.

    `files`: name of a file inside that is no XML -> content, each character a byte; its stem is the id.
    """
    parts, files = parts or {}, files or {}
    members: dict[str, str | bytes] = {
        main: f"<w:document {_NAMESPACES}><w:body>{body}</w:body></w:document>",
        f"word/_rels/{main.removeprefix('word/')}.rels": _relationships(
            {
                **{kind: (kind.rstrip("0123456789"), f"{kind}.xml") for kind in parts},
                **{(stem := name.partition(".")[0]): (stem, name) for name in files},
            }
        ),
        **{
            f"word/{kind}.xml": content.replace(">", f" {_NAMESPACES}>", 1)
            for kind, content in parts.items()
        },
        **{f"word/{name}": content.encode("latin-1") for name, content in files.items()},
    }
    return _office(members, main)


def slides(
    *contents: str, order: Sequence[int] = (), parts: Mapping[str, str] | None = None
) -> bytes:
    """A presentation of slides with these shapes. `parts`: "notesSlide1" is of the first slide, and so on."""
    order, parts = order or range(1, len(contents) + 1), parts or {}
    ids = "".join(f'<p:sldId id="{255 + number}" r:id="s{number}"/>' for number in order)
    files: dict[str, str | bytes] = {
        "ppt/presentation.xml": f"<p:presentation {_NAMESPACES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": _relationships(
            {f"s{number}": ("slide", f"slides/slide{number}.xml") for number in order}
        ),
    }
    for number, content in enumerate(contents, 1):
        hidden = ' show="0"' if content.startswith("hidden:") else ""
        tree = f"<p:cSld><p:spTree>{content.removeprefix('hidden:')}</p:spTree></p:cSld>"
        files[f"ppt/slides/slide{number}.xml"] = f"<p:sld {_NAMESPACES}{hidden}>{tree}</p:sld>"
        of_slide = {k: (k[:-1], f"../other/{k}.xml") for k in parts if k.endswith(str(number))}
        files[f"ppt/slides/_rels/slide{number}.xml.rels"] = _relationships(of_slide)
    for kind, content in parts.items():
        files[f"ppt/other/{kind}.xml"] = content.replace(">", f" {_NAMESPACES}>", 1)
    return _office(files, "ppt/presentation.xml")


def shape(paragraphs: str, placeholder: str = "") -> str:
    """A shape of a slide with these paragraphs (`<a:p>`)."""
    kind = f'<p:ph type="{placeholder}"/>' if placeholder else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="9" name="n"/><p:cNvSpPr/><p:nvPr>{kind}</p:nvPr></p:nvSpPr>'
        f"<p:txBody><a:bodyPr/>{paragraphs}</p:txBody></p:sp>"
    )


def line(text: str) -> str:
    """A paragraph of a slide."""
    return f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>"


def open_document(body: str, kind: str = "text", *, styles: str = "", automatic: str = "") -> bytes:
    """An OpenDocument file. `styles`: the content of styles.xml; `automatic`: the styles of the content."""
    content = (
        f"<office:document-content {_OPEN_NAMESPACES}><office:automatic-styles>{automatic}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": content,
            "styles.xml": f"<office:document-styles {_OPEN_NAMESPACES}>{styles}</office:document-styles>",
        }
    )


def _relationships(relationships: Mapping[str, tuple[str, str]]) -> str:
    namespace = f"{_OFFICE}package/2006/relationships"
    items = "".join(
        f'<Relationship Id="{key}" Type="{_RELATIONS}/{kind}" Target="{target}"/>'
        for key, (kind, target) in relationships.items()
    )
    return f'<Relationships xmlns="{namespace}">{items}</Relationships>'


def _office(files: Mapping[str, str | bytes], main: str) -> bytes:
    types = f"{_OFFICE}package/2006/content-types"
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{types}"><Default Extension="xml" ContentType="application/xml"/></Types>',
            "_rels/.rels": _relationships({"r1": ("officeDocument", main)}),
            **files,
        }
    )
