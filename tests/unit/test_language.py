"""The language of a document and of a piece of it, on sentences and, where they are there, on the shared corpora."""

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
