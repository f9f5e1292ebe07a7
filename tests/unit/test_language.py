"""The language of a document and of its chunks, on sentences and, if present, on the shared corpora."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from rag_assets.pipeline.chunking import split
from resources.parsing import language as languages
from resources.parsing import parse_document
from resources.parsing.function_words import FUNCTION_WORDS
from resources.parsing.language import detect_language, own_language
from tests.support.parsed import ENGLISH, SHARED, TEXTS, needs_shared, parse, shared_texts


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_sentence_is_detected(language: str) -> None:
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
def test_languages_of_one_script_are_distinguished(language: str, text: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize(
    ("document_language", "chunk", "own"),
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
def test_a_chunk_has_its_own_language_only_if_it_certainly_differs(
    document_language: str | None, chunk: str, own: str | None
) -> None:
    assert own_language(chunk, document_language) == own


@needs_shared
def test_chunks_of_translated_corpora_have_the_language_of_their_document() -> None:
    chunks = others = 0
    for language, text in shared_texts("corpora/fastapi-docs", "*/**/*.md"):
        for chunk in split(text, markdown=True):
            chunks += 1
            others += own_language(chunk.content, language) is not None
    assert others <= 0.01 * chunks > 0


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The samples that the detector gets: each takes as long as creating and storing the chunk."""
    detector, samples = languages._detector(), []

    class RecordingDetector:
        def __getattr__(self, name: str) -> Callable[[str], object]:
            def detect(sample: str) -> object:
                samples.append(sample)
                return getattr(detector, name)(sample)

            return detect

    monkeypatch.setattr(languages, "_detector", RecordingDetector)
    return samples


@pytest.mark.parametrize("code", ["fr", "ru", "ar", "fa", *SENTENCES])
def test_a_chunk_that_shows_its_document_s_language_needs_no_detector(
    code: str, samples: list[str]
) -> None:
    assert own_language((TEXTS | SENTENCES)[code], code) is None
    assert samples == []


def test_a_chunk_without_function_words_of_any_language_needs_no_detector(
    samples: list[str],
) -> None:
    chunk = "bafede gijuko lamoni pesatu vizowe dubana " * 20
    assert own_language(chunk, "id") is None
    assert samples == []


@needs_shared
@pytest.mark.parametrize(("code", "folder"), [("ar", "ar-xquad"), ("fa", "fa-pquad")])
def test_few_chunks_of_articles_need_the_detector(
    code: str, folder: str, samples: list[str]
) -> None:
    articles = sorted((SHARED / "qa" / folder / "articles").glob("*.txt"))[:40]
    chunks = [
        chunk.content
        for article in articles
        for chunk in split(article.read_text(encoding="utf-8"), markdown=False)
    ]
    assert not any(own_language(chunk, code) for chunk in chunks)
    assert len(samples) <= 0.1 * len(chunks) > 0


def test_every_language_that_lingua_distinguishes_has_function_words() -> None:
    from lingua import Language

    codes = (getattr(Language, name).iso_code_639_1 for name in languages.LANGUAGES.split())
    assert set(FUNCTION_WORDS) == {code.name.lower() for code in codes}


def test_menus_before_the_text_do_not_count() -> None:
    menu = "".join(
        f"- [Strona numer {i} po polsku](https://example.org/strona/{i})\n" for i in range(200)
    )
    assert detect_language(menu + TEXTS["fr"]) == "fr"


def test_the_language_is_that_of_the_prose_not_of_the_code() -> None:
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


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ja", "東京都庁舎展望室営業時間変更告知"),
        ("ja", "製品仕様書 第3版 改訂履歴"),
        ("ja", "TOKYO METRO 遅延証明書 発行手順"),
        ("ja", "株式会社山田製作所 取締役会議事録"),
        ("ja", "会議室予約表 第二会議室の鍵"),
        ("ja", "気象庁"),
        ("zh", "图书馆开放时间通知"),
        ("zh", "圖書館開放時間通知"),
        ("zh", "中华人民共和国"),
        ("zh", "資產負債表"),
        ("ko", "한국 大統領 府"),
        # Written alike in both languages.
        (None, "東京"),
        (None, "注意事項"),
        (None, "北京大学"),
    ],
)
def test_characters_of_one_standard_only_tell_japanese_from_chinese(
    language: str | None, text: str
) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "Mirabell Ott Albatros Anouk",
        "Vessel Captain Region Inspected Albatros Anouk",
        "Rechnung Nr. 2026-117",
        "Насос",
    ],
)
def test_names_and_headings_have_no_language(text: str) -> None:
    assert detect_language(text) is None


def test_the_language_can_be_forced() -> None:
    assert parse_document(ENGLISH.encode(), "a.txt", language="la").language == "la"


@needs_shared
@pytest.mark.parametrize(
    ("folder", "min_share"), [("corpora/fastapi-docs", 0.99), ("corpora/tldr-multi", 0.99)]
)
def test_the_language_of_translated_corpora_is_detected(folder: str, min_share: float) -> None:
    correct = [
        detect_language(text) == language for language, text in shared_texts(folder, "*/**/*.md")
    ]
    assert len(correct) > 500
    assert sum(correct) / len(correct) >= min_share


@needs_shared
@pytest.mark.parametrize("name", ["ar-xquad", "en-xquad", "fa-pquad", "ja-jsquad", "zh-xquad"])
def test_the_language_of_articles_is_detected(name: str) -> None:
    texts = [path.read_text() for path in (SHARED / "qa" / name / "articles").glob("*.txt")]
    counts = Counter(detect_language(text) for text in texts if len(text) > 200)
    assert counts[name[:2]] >= 0.98 * counts.total() > 0
