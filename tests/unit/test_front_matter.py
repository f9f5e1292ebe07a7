"""Titles, authors, categories and tags of Markdown and other text: front matter, headings, the key."""

from __future__ import annotations

import time

import pytest
import yaml

from tests.support.parsed import (
    ENGLISH,
    parse,
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
        ("---\n---\n# Heading\n", "a.md", "Heading"),
        ("text\n\n---\n---\n\n# Heading\n", "a.md", "Heading"),
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
        ('authors: [Ada, "Babbage, Charles"]', "Ada; Babbage, Charles"),
        ("author: null", None),
        ("author: ~", None),
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
        ("title: 2024-01-31\ntags: [1, 2.50, yes, null, 0x1F]", "2024-01-31", ["1", "2.50", "yes", "0x1F"]),
        ("tags: ['null', ~, Null, '~']\ntitle: null", "Heading", ["null", "~"]),
        ("title: 'Anna''s pump' # working title\ntags: [\"Basel, CH\", it's, c#,\n  \"two: parts\"]",
         "Anna's pump", ["Basel, CH", "it's", "c#", "two: parts"]),
        ("tags: [\none,\ntwo,\n]\ntitle: T", "T", ["one", "two"]),
        ("tags:\n  - \"a, b\"\n  - c # remark\ntitle: \"A \\\"quoted\\\" one\"", 'A "quoted" one', ["a, b", "c"]),
        ("title: T\ntags: pump valve", "T", ["pump valve"]),
        ("title: T\ntags: >-\n  alpha,\n  beta", "T", ["alpha", "beta"]),
        ("meta:\n  title: inner\n  tags: [x]\ntitle: T", "T", []),
        ("title: T\ntaxonomies:\n  tags: [a]", "T", ["a"]),
        ("title: >-\n  two\n  lines\ntags:\n  - a\n  -   # empty\n  - b", "two lines", ["a", "b"]),
        ("Title: 'It''s' # comment\nTAGS: a", "It's", ["a"]),
        ('title: "bell \\a, nul \\0"\ntags: "a, b"', "bell , nul", ["a", "b"]),
        ("title: T\ntags: [a, [nested], {b: c}, d]\nauthor: {name: {first: Ada}}", "T", ["a", "d"]),
        ("title: &name T\ntags: !custom [a]", "T", ["a"]),
        ("title: T\n? [a, b]\n: c", "T", []),
        ("title: &name T\ntags: [*name]", "T", ["T"]),
        ("title: first: second\ntags: [a]", "first: second", ["a"]),
    ],
)  # fmt: skip
def test_front_matter_is_read_as_yaml(front_matter: str, title: str, tags: list[str]) -> None:
    document = parse(f"---\n{front_matter}\n---\n# Heading\n", "a.md")
    assert (document.title, document.category, document.tags) == (title, "", tags)


@pytest.mark.parametrize(
    ("block", "title"),
    [
        ("- title: T\n- tags: [a]", "Heading"),
        ("Just a rule, then a text.", "Just a rule, then a text."),
        ("\nJust a rule, then a text.\n", "Heading"),
        ("# The real title", "The real title"),
        ("A line: of text\nand one more", "and one more"),
    ],
)
def test_a_text_between_two_rules_is_no_front_matter(block: str, title: str) -> None:
    document = parse(f"---\n{block}\n---\n# Heading\n", "a.md")
    assert (document.title, document.category, document.tags) == (title, None, None)


def test_front_matter_may_be_toml() -> None:
    front_matter = (
        'title = "Pump"\ntags = ["a", 7, 2.50, true]\ncategory = 2024-01-02\n[extra]\nauthor = "x"'
    )
    document = parse(f"+++\n{front_matter}\n+++\nText", "a.md")
    assert (document.title, document.category) == ("Pump", "2024-01-02")
    assert (document.tags, document.author) == (["a", "7", "2.50", "true"], None)
    for invalid in ("title = ", "x = " + "[" * 5_000, "x = 0x" + "f" * 9000):
        assert parse(f"+++\n{invalid}\n+++\n# Heading", "a.md").title == "Heading"


def test_what_is_cut_of_long_fields_is_recorded() -> None:
    document = parse(f"---\nauthor: {'a' * 300}\ncategory: {'c' * 120}\n---\nText", "a.md")
    assert document.metadata["left_out"] == [
        "45 characters of the author, which keeps its first 255",
        "20 characters of the category, which keeps its first 100",
    ]


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
    # A block that is no mapping is no front matter.
    assert (document.author, document.category or "", document.tags or []) == (None, "", [])
    assert time.process_time() - start < 3


def test_without_front_matter_category_and_tags_are_none() -> None:
    document = parse("# Title\n\ntags: [a]\n", "a.md")
    assert (document.category, document.tags) == (None, None)
