"""Articles and books in JATS and DocBook: every part of the text, no mark inside a word."""

from __future__ import annotations

import pytest

from resources.parsing import ParsedDocument
from tests.support.parsed import parse

_SIGNS = "R&amp;D 5&lt;6 &#8211; caf&eacute; in<{0}>si</{0}>de"
_SIGNS_READ = "R&D 5<6 – café inside"


def jats(body: str, front: str = "", back: str = "") -> ParsedDocument:
    doctype = '<!DOCTYPE article PUBLIC "-//NLM//DTD JATS v1.2//EN" "x.dtd">'
    return parse(
        f"{doctype}<article><front><article-meta>{front}</article-meta></front><body>{body}</body>"
        f"<back>{back}</back></article>",
        "a.xml",
    )


def docbook(body: str) -> ParsedDocument:
    return parse(f'<article xmlns="http://docbook.org/ns/docbook">{body}</article>', "a.dbk")


def test_signs_and_characters_are_read() -> None:
    text = _SIGNS.format("italic")
    assert jats(f"<p>{text}</p><sec><title>{text}</title></sec>").text.count(_SIGNS_READ) == 2
    text = _SIGNS.format("emphasis")
    assert docbook(f"<title>{text}</title><para>{text}</para>").text.count(_SIGNS_READ) == 2


def test_the_parts_of_a_jats_article() -> None:
    front = (
        "<title-group><article-title>Effects of CO<sub>2</sub></article-title></title-group><contrib-group>"
        "<contrib><name><surname>Lee</surname><given-names>Bo</given-names></name></contrib></contrib-group>"
        "<pub-date><month>2</month><year>2020</year></pub-date><abstract><p>Short</p></abstract>"
    )
    body = (
        "<sec><label>1.</label><title>Intro</title><p>See <xref>1</xref>.<fn><p>Note</p></fn></p>"
        "<sec><title>Deep</title>"
        "<fig><label>Figure 1</label><caption><p>Ducks</p></caption></fig>"
        "<def-list><def-item><term>TT</term><def><p>DD</p></def></def-item></def-list>"
        "<code>x = 1\ny = 2</code><disp-formula><tex-math>a_1</tex-math></disp-formula></sec></sec>"
    )
    citation = "<name><surname>Doe</surname><given-names>J</given-names></name><year>2001</year>"
    back = f"<ref-list><ref><label>1</label><element-citation>{citation}</element-citation></ref></ref-list>"
    document = jats(body, front, back)
    assert (document.title, document.author) == ("Effects of CO2", "Bo Lee")
    assert document.metadata["created_at"] == "2020-02"
    assert [line for line in document.text.split("\n") if line.strip()] == [
        *("# Effects of CO2", "## Abstract", "Short", "## 1. Intro", "See 1. [1]", "### Deep"),
        *("Figure 1", "Ducks", "TT", "DD", "```", "x = 1", "y = 2", "```", "$a_1$"),
        *("1. Doe J 2001", "[1] Note"),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<simplelist><member>a</member><member>b</member></simplelist>", "- a\n- b"),
        (
            "<variablelist><varlistentry><term>Coffee</term><listitem><para>Black</para></listitem></varlistentry></variablelist>",
            "Coffee\nBlack",
        ),
        ("<para>Use<indexterm><primary>x</primary></indexterm> <code>ls</code></para>", "Use `ls`"),
        ("<note><para>careful</para></note>", "> *Note*\n>\n> careful"),
        ("<para>text<footnote><para>below</para></footnote></para>", "text [1]\n\n[1] below"),
        (
            "<table><tgroup cols='2'><thead><row><entry>a</entry><entry>b</entry></row></thead>"
            "<tbody><row><entry>1</entry><entry>2</entry></row></tbody></tgroup></table>",
            "| a | b |\n| - | - |\n| 1 | 2 |",
        ),
        ("<info><title>T</title><author><surname>Lee</surname></author></info>", "# T"),
    ],
)
def test_the_parts_of_docbook(body: str, expected: str) -> None:
    assert docbook(body).text.replace("---", "-") == expected
