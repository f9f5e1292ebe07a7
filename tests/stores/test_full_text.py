"""Full text on a stock server: six languages, and texts longer than a tsvector can be."""

from __future__ import annotations

from typing import LiteralString

import pytest

from resources.postgres.connection import Connection
from resources.postgres.queries import scalar, scalars
from tests.support.extent import only_in_soak
from tests.support.rows import new_document, new_source

TEXTS = {
    "ja": "東京タワーの近くで猫を二匹見ました。人々は写真を撮っていた。",
    "ja-other": "京都のお寺は冬に静かです。",
    "zh": "北京大学的图书馆每天开放到晚上十点。我喜欢喝茶",
    "zh-other": "上海的天气很好。",
    "ko": "어제 도서관에서 책을 빌렸고 친구에게 선물을 주었다.",
    "ko-other": "오늘은 날씨가 맑고 바람이 분다.",
    "fa": "کتاب‌های فارسی در کتابخانهٔ دانشگاه نگهداری می‌شوند.",
    "fa-other": "هوا امروز آفتابی است.",
    "ar": "تفتح المكتبة الوطنية أبوابها كل صباح للقراء.",
    "ar-other": "الطقس اليوم مشمس.",
    "en": "The library keeps rare books and opens every morning.",
    "en-other": "Weather today: sunny, 23 degrees.",
}

QUERIES = [
    ("東京タワー", {"ja"}),
    # Within a word.
    ("京タ", {"ja"}),
    # One character.
    ("猫", {"ja"}),
    ("匹", {"ja"}),
    ("人々", {"ja"}),
    ("静かです", {"ja-other"}),
    ("東京 写真", {"ja"}),
    ("大阪", set()),
    # Both characters occur, but never side by side.
    ("東都", set()),
    ("图书馆", {"zh"}),
    # The last character of a run.
    ("茶", {"zh"}),
    ("北京大学 图书馆", {"zh"}),
    ("天气", {"zh-other"}),
    # The text has this word with a particle.
    ("도서관", {"ko"}),
    ("책", {"ko"}),
    ("친구", {"ko"}),
    ("선물", {"ko"}),
    ("날씨", {"ko-other"}),
    ("کتاب‌های", {"fa"}),
    # Without the ZWNJ.
    ("کتاب های", {"fa"}),
    # Typed with Arabic kaf and yeh.
    ("كتاب‌هاي فارسي", {"fa"}),
    ("می‌شوند", {"fa"}),
    ("هوا", {"fa-other"}),
    ("المكتبة", {"ar"}),
    # Typed with a Persian kaf.
    ("المکتبة", {"ar"}),
    ("الطقس", {"ar-other"}),
    # Stretched by a tatweel.
    ("المـكتبة", {"ar"}),
    ("library BOOKS", {"en"}),
    ("library weather", set()),
    ("sunny", {"en-other"}),
]


@pytest.mark.parametrize("table", ["documents", "document_chunks"])
def test_each_language_finds_its_text_and_no_other(connection: Connection, table: str) -> None:
    source = new_source(connection)
    for key, text in TEXTS.items():
        new_document(connection, source, key, [text])
    names: dict[str, LiteralString] = {
        "documents": "SELECT source_key FROM documents t",
        "document_chunks": "SELECT d.source_key FROM document_chunks t JOIN documents d ON d.id = t.document_id",
    }
    languages = {
        query: set(
            scalars(connection, f"{names[table]} WHERE t.search_vector @@ rag_tsquery(%s)", [query])
        )
        for query, _ in QUERIES
    }
    assert languages == dict(QUERIES)


@pytest.mark.parametrize("query", ["", " ", "!?", "'", "'猫'", "a & | ! ( ) :* <->", "\\", "猫:*"])
def test_no_query_is_an_error(connection: Connection, query: str) -> None:
    new_document(connection, new_source(connection), "a", ["猫 a"])
    connection.execute("SELECT id FROM documents WHERE search_vector @@ rag_tsquery(%s)", [query])


def test_texts_of_one_character_are_indexed(connection: Connection) -> None:
    new_document(connection, new_source(connection), "a", ["猫"])
    assert connection.execute("SELECT search_vector::text FROM documents").fetchall() == [
        ("'猫':1",)
    ]


#: Written by the tests alone, since each test process collects all cases.
HUGE = {
    # 6 MB of different words.
    "words": lambda: "".join(f"w{n} " for n in range(800_000)),
    # 1 MB of Han.
    "han": lambda: "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(350_000)),
    "hangul": lambda: "".join(
        chr(0xAC00 + n * 7919 % 11_000) + " " * (n % 2) for n in range(350_000)
    ),
    "one-word": lambda: "x" * 5_000_000,
}


@pytest.mark.parametrize("name", ["words", "han", *only_in_soak("hangul"), "one-word"])
def test_huge_texts_are_stored_and_found_by_their_beginning(
    connection: Connection, name: str
) -> None:
    text = HUGE[name]()
    new_document(connection, new_source(connection), "a", content="beginning " + text)
    query = "SELECT length(content) FROM documents WHERE search_vector @@ rag_tsquery('beginning')"
    assert scalar(connection, query) == len(text) + 10
