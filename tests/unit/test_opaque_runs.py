"""Runs of encoded bytes in texts: what is cut in every format, and what only looks like them."""

from __future__ import annotations

import base64
import json
import random
import time

import pytest

from rag_assets.pipeline.chunking import split
from resources.parsing.opaque_runs import cut_opaque_runs
from tests.support.parsed import parse

RANDOM = random.Random(1)
BYTES = RANDOM.randbytes(3000)
BASE64 = base64.b64encode(BYTES).decode()


def wrap(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]


LINES = "\n".join(wrap(BASE64, 64))
URI = f"data:image/png;base64,{BASE64}"


@pytest.mark.parametrize(
    "run",
    [
        URI,
        BASE64,
        base64.urlsafe_b64encode(BYTES).decode(),
        base64.b64encode(b"The quick brown fox jumps over the dog. " * 20).decode(),
        BYTES.hex(),
        BYTES.hex().upper(),
        base64.a85encode(BYTES).decode(),
        base64.b85encode(BYTES[:170]).decode(),
        LINES,
        LINES.replace("\n", " "),
        LINES.replace("\n", "\n> "),
        LINES.replace("\n", '"\n    "'),
        "\n".join(wrap(BYTES.hex(), 60)),
        "\n".join(wrap(base64.b85encode(BYTES[:1560]).decode(), 65)),
        f"-----BEGIN EC PRIVATE KEY-----\n{LINES[:130]}\n-----END EC PRIVATE KEY-----",
        "data:image/svg+xml," + "%3Csvg%20xmlns%3D%22http%3A%2F%2Fwww.w3.org%22%3E" * 5,
        "".join(f"%{byte:02X}" for byte in BYTES[:100]),
        "".join(f"\\x{byte:02x}" for byte in BYTES[:100]),
        f"https://click.example.org/f/a/{base64.urlsafe_b64encode(BYTES[:300]).decode()}",
    ],
    ids=lambda run: run[:24],
)
def test_encoded_bytes_are_cut_and_the_words_around_them_stay(run: str) -> None:
    text, runs, characters = cut_opaque_runs(f"Before\n{run}\nAfter words")
    assert runs == 1 and text.startswith("Before\n") and text.endswith("\nAfter words")
    assert len(text) < 150 and characters > 0.6 * len(run)


@pytest.mark.parametrize(
    "text",
    [
        "ภาษาไทย" * 100,
        "日本語の長い文章" * 100,
        "ភាសាខ្មែរ" * 100,
        "ACGT" * 200,
        "".join(RANDOM.choice("acgt") for _ in range(900)),
        "\n".join(wrap("".join(RANDOM.choice("ACDEFGHIKLMNPQRSTVWY") for _ in range(900)), 60)),
        "Thequickbrownfoxjumpsoverthelazydog2024Berlin" * 20,
        "".join(RANDOM.choice("0123456789") for _ in range(900)),
        "some_very_long_identifier_with_parts_" * 10,
        "SomeVeryLongIdentifierName2WithParts" * 10,
        "https://example.org/a?" + "&".join(f"param{n}=value{n}" for n in range(60)),
        "https://ja.wikipedia.org/wiki/" + "%E6%97%A5%E6%9C%AC%E8%AA%9E" * 20,
        "\n".join(RANDOM.randbytes(32).hex() for _ in range(50)),
        json.dumps([{"id": n, "name": f"User{n}"} for n in range(60)], separators=(",", ":")),
        ",".join(f"{RANDOM.random():.6f}" for _ in range(100)),
        "a{color:#FF00AA;margin:0}.b1{padding:3px}" * 20,
        "-" * 500,
        "|---" * 100,
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_encoded_bytes_stays(text: str) -> None:
    assert cut_opaque_runs(text) == (text, 0, 0)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (f"Before ![plan]({URI}) [pdf]({URI}) after ![r][1].\n\n[1]: {URI}", "a.md", ["Before", "plan", "after"]),
        (f"<main>Before <a href='{URI}'>pdf</a> after</main>", "a.html", ["Before", "pdf", "after"]),
        # PHP escapes the slashes.
        (json.dumps({"name": "Sperber", "image": URI}).replace("/", "\\/"), "a.json", ["Sperber", "image:"]),
        (f'name,image\nSperber,"{URI}"\n', "a.csv", ["Sperber", "image:"]),
        (f"<r><name>Sperber</name><image>\n{LINES}\n</image></r>", "a.xml", ["Sperber", "image:"]),
        (f"-----BEGIN CERTIFICATE-----\n{LINES}\n-----END CERTIFICATE-----\nAfter", "a.txt", ["CERTIFICATE", "After"]),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 9 else "",
)  # fmt: skip
def test_every_format_is_read_without_encoded_bytes_and_the_document_records_it(
    text: str, key: str, words: list[str]
) -> None:
    document = parse(text, key)
    assert all(word in document.text for word in words)
    assert len(split(document.text, markdown=document.markdown)) == 1
    (note,) = document.metadata["left_out"]  # pyright: ignore
    assert "of encoded bytes" in str(note)


@pytest.mark.parametrize(
    "text",
    ["data:a/b;base64," * 30_000, "A" * 1_000_000, "-----BEGIN A-----" * 20_000, "%41" * 200_000,
     ("x" * 45 + "\n") * 30_000, "://" + "a/" * 200_000, "begin 644 x\n" + ("M" + " " * 60 + "\n") * 10_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_the_search_for_encoded_bytes_takes_linear_time(text: str) -> None:
    start = time.process_time()
    cut_opaque_runs(text)
    # A quadratic search would take minutes.
    assert time.process_time() - start < 3
