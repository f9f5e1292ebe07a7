"""Helpers of the parsing tests: texts in several languages, handmade files, the shared corpora."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from resources.parsing import ParsedDocument, parse_document

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no shared corpora in {SHARED}")

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


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def docx(body: str, title: str = "", prefix: str = "w") -> bytes:
    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    body = body.replace("w:", f"{prefix}:")
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
            f'<Relationship Id="r1" Type="{office}" Target="word/document.xml"/></Relationships>',
            "word/document.xml": f'<{prefix}:document xmlns:{prefix}="{main}"><{prefix}:body>{body}</{prefix}:body></{prefix}:document>',
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


def shared_texts(folder: str, pattern: str) -> Iterator[tuple[str, str]]:
    for path in sorted((SHARED / folder).glob(pattern)):
        yield path.relative_to(SHARED / folder).parts[0].replace("zh-hant", "zh"), path.read_text()
