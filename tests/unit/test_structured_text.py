"""JSON, XML, subtitles and calendars as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.errors import ParseError
from tests.support.parsed import (
    parse,
)


def test_json_becomes_lines_that_name_their_path() -> None:
    assert (
        parse('[{"a": {"b": 1, "c": [1, 2]}}, {"a": null, "t": "x"}]', "x.json").text
        == "a.b: 1\na.c: 1, 2\n\nt: x"
    )
    assert parse('{"n": 1}\n{"n": 2}\n', "x.jsonl").text == "n: 1\n\nn: 2"
    assert (
        parse('{"version": 1.10, "n": [1e400, 2]}', "x.json").text == "version: 1.10\nn: 1e400, 2"
    )
    assert "\ud800" not in parse(r'{"broken": "\ud800 half a pair"}', "x.json").text
    with pytest.raises(ParseError, match="JSON is not valid"):
        parse("{ nonsense", "x.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "a": 2, "b": {"x": "one", "x": "two"}}', "a: 1\na: 2\nb.x: one\nb.x: two"),
        ('{"a": NaN, "b": -Infinity}\n{"a": 1}', "a: NaN\nb: -Infinity\n\na: 1"),
        ('{"a": "x"}{"a": "y"}', "a: x\n\na: y"),
        ('{\n"a": "x"\n}\n{\n"a": "y"\n}\n', "a: x\n\na: y"),
        ('{"a": "x"}\n{"a": "y"\n{"a": "z"}\n', 'a: x\n\n{"a": "y"\n\na: z'),
        (f'{{"a": {"9" * 5000}}}', f"a: {'9' * 5000}"),
    ],
    ids=("repeated", "no numbers", "in one line", "in several lines", "broken line", "long number"),
)
def test_no_value_of_json_is_lost(text: str, expected: str) -> None:
    for key in ("a.json", "a.jsonl"):
        assert parse(text, key).text == expected


def test_json_with_comments_is_read_as_it_is() -> None:
    text = '// The target, "quoted".\n{"target": "es5", /* https://x */ "lib": ["dom",], // last\n}'
    assert parse(text, "tsconfig.json").text == text
    for broken in ('// x\n{"a": }', '{"a": 1', "", "[1, 2] and words"):
        with pytest.raises(ParseError, match=r"JSON is not valid|is empty"):
            parse(broken, "a.json")


def test_xml_keeps_text_and_loads_no_external_entity(tmp_path: Path) -> None:
    document = parse("<r><title>Feed</title><p>Some <b>mixed</b> text</p></r>", "a.xml")
    assert (document.text, document.title) == ("title: Feed\nSome mixed text", "Feed")
    secret = tmp_path / "secret.txt"
    secret.write_text("do not read me")
    bomb = f'<!DOCTYPE r [<!ENTITY x SYSTEM "{secret.as_uri()}">]><r><a>seen</a><b>&x;</b></r>'
    assert "do not read me" not in parse(bomb, "a.xml").text
    assert "broken but here" in parse("<r><a>broken but here</r>", "a.xml").text


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<d><s>Intro<p>One</p><p>Two</p><list><item>a</item><item>b</item></list></s></d>", "Intro\nOne\nTwo\na\nb"),
        ("<d><p>end<lb/>start, in<hi>si</hi>de, bro<lb break='no'/>ken</p></d>", "end\nstart, inside, broken"),
        ("<d><p>By <name>Ada</name><date>1843</date>.</p></d>", "By Ada 1843."),
        ("<d><item name='Blue lamp' price='12'/><item name='Chair' price='40'/><x id='n'/></d>", "name: Blue lamp; price: 12\nname: Chair; price: 40"),
        ("<d><img alt='an image' he='2'/><img alt='an image' he='3'/><link href='x' title='Two words'/><a>text</a></d>", "a: text"),
        ("<opml><outline text='News' url='x'/></opml>", "text: News; url: x"),
        ("<d><row Body='&lt;p&gt;How do I&lt;/p&gt;' class='two words'/></d>", "Body: How do I; class: two words"),
        ("<d><t class='two words'>text</t></d>", "t: text"),
        ("<!DOCTYPE d [<!ENTITY co 'ACME'>]><d><a>&co; caf&eacute;</a></d>", "a: ACME café"),
        ("<d><a>&lt;p&gt;<![CDATA[one</p><p>t<b>w</b>o &eacute;]]></a></d>", "a: one two é"),
        ("<!DOCTYPE d [<!ENTITY x 'y'>]><d><a>one &amp; two<b><![CDATA[three]]></d>", "one & two\nthree"),
    ],
)  # fmt: skip
def test_no_text_of_xml_is_glued_or_lost(xml: str, expected: str) -> None:
    assert parse(xml, "a.xml").text == expected


def test_xml_is_recognized_by_its_suffixes() -> None:
    assert parse("<xliff><source>Hello</source></xliff>", "a.xlf").text == "source: Hello"


def test_subtitles_become_the_spoken_lines() -> None:
    text = "WEBVTT\n\nNOTE by me\n\n1\n00:00:01.000 --> 00:00:02.000 align:start\n<v Ann>Hello there\n\n2\n00:03.000 --> 00:04.000\nBye"
    assert parse(text, "a.vtt").text == "Ann: Hello there\nBye"


def test_what_is_spoken_is_no_number_note_or_tag() -> None:
    srt = (
        "1\n00:00:01,000 --> 00:00:02,000\n42\n\n2\n00:00:02,000 --> 00:00:03,000\nNOTE that:\n2\n"
        "3\n00:00:03,000 --> 00:00:04,000\nif a < b and c > d\n\nlast\\Nline\n"
    )
    assert parse(srt, "a.srt").text == "42\nNOTE that:\n2\nif a < b and c > d\nlast line"
    vtt = (
        "WEBVTT - Two friends\nKind: captions\n\nSTYLE\n::cue { }\n\nNOTE two\nlines\n\nintro-1\n"
        "00:01.000 --> 00:02.000 position:10%\n<v.loud Ann>Hi &amp; <i>bye</i>\n\n00:02.000 --> 00:03.000\n"
        "<v Ann>2024\n\n00:03.000 --> 00:04.000\n<v Bob>Yes\n"
    )
    assert parse(vtt, "a.vtt").text == "Two friends\nAnn: Hi & bye\n2024\nBob: Yes"


def test_the_lines_of_calendars_and_contacts_are_whole() -> None:
    calendar = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VTIMEZONE\r\nTZID:X\r\nDTSTART:19700101T000000\r\nEND:VTIMEZONE\r\n"
        "BEGIN:VEVENT\r\nUID:7\r\nSUMMARY;LANGUAGE=de:Quartals\r\n zahlen\\, Teil 1\r\n"
        'DTSTART;TZID=Europe/Berlin:20240131T100000\r\nORGANIZER;CN="Lovelace, Ada":mailto:ada@example.org\r\n'
        "BEGIN:VALARM\r\nDESCRIPTION:Beep\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    assert parse(calendar, "a.ics").text.split("\n") == [
        "SUMMARY: Quartalszahlen, Teil 1",
        "DTSTART: 2024-01-31T10:00 Europe/Berlin",
        "ORGANIZER: Lovelace, Ada <ada@example.org>",
    ]
    contact = "BEGIN:VCARD\nFN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:J=C3=B6rg M=\n=C3=BCller\nADR:;;Main St 1;Ulm\nEND:VCARD\n"
    assert parse(contact, "a.vcf").text == "FN: Jörg Müller\nADR: Main St 1, Ulm"
