"""A URL that is shown never contains a secret, whatever characters the secret has."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.urls import without_secrets

# At least 8 characters, so that it does not occur elsewhere in the URL by chance.
SECRETS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=8, max_size=20).map(
    lambda text: "S" + text + "T"
)
# libpq accepts all characters but "/" and "@" unquoted.
RAW_SECRETS = st.text("abcXYZ019!$&'()*+,;=.~-_%?#:", min_size=8, max_size=20)


@given(SECRETS)
def test_quoted_passwords_and_query_values_are_hidden(secret: str) -> None:
    quoted = quote(secret, safe="")
    for url in (
        f"postgresql://user:{quoted}@db.example:5432/rag?sslmode=require",
        f"postgresql://db.example/rag?user=u&password={quoted}&sslmode=require",
        f"s3://bucket/folder?access_key=id&secret_key={quoted}&region=eu",
        f"https://milvus.example:19530?token={quoted}",
        f"https://{quoted}@example.org/repository",
    ):
        shown = without_secrets(url)
        assert quoted not in shown and secret not in shown
        assert "***" in shown


@given(RAW_SECRETS)
def test_unquoted_passwords_are_hidden(secret: str) -> None:
    shown = without_secrets(f"postgresql://user:{secret}@db.example/rag")
    assert shown == "postgresql://user:***@db.example/rag"


@given(SECRETS)
def test_passwords_of_keyword_strings_are_hidden(secret: str) -> None:
    escaped = secret.replace("\\", "\\\\").replace("'", "\\'")
    shown = without_secrets(f"host=db password='{escaped}' dbname=rag")
    assert shown == "host=db password=*** dbname=rag"
    escaped = escaped.replace(" ", "\\ ")
    if not any(character.isspace() for character in secret.replace(" ", "")):
        shown = without_secrets(f"host=db password = {escaped} dbname=rag")
        assert shown == "host=db password = *** dbname=rag"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/data/rag storage",
        "http://127.0.0.1:19530",
        "s3://bucket/folder?region=eu",
        "postgresql://postgres@/rag?host=/tmp/rag/run/pg",
        "file:///data/a b",
        "postgresql://[::1]:5432/rag",
    ],
)
def test_urls_without_secrets_do_not_change(url: str) -> None:
    assert without_secrets(url) == url


@given(st.text())
def test_any_text_is_accepted(text: str) -> None:
    without_secrets(text)
    without_secrets("http://" + text)
