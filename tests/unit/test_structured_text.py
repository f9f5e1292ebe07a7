"""JSON, XML and subtitles as text."""

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


def test_xml_keeps_text_and_loads_no_external_entity(tmp_path: Path) -> None:
    document = parse("<r><title>Feed</title><p>Some <b>mixed</b> text</p></r>", "a.xml")
    assert (document.text, document.title) == ("title: Feed\nSome mixed text", "Feed")
    secret = tmp_path / "secret.txt"
    secret.write_text("do not read me")
    bomb = f'<!DOCTYPE r [<!ENTITY x SYSTEM "{secret.as_uri()}">]><r><a>seen</a><b>&x;</b></r>'
    assert "do not read me" not in parse(bomb, "a.xml").text
    assert "broken but here" in parse("<r><a>broken but here</r>", "a.xml").text


def test_subtitles_become_the_spoken_lines() -> None:
    text = "WEBVTT\n\nNOTE by me\n\n1\n00:00:01.000 --> 00:00:02.000 align:start\n<v Ann>Hello there\n\n2\n00:03.000 --> 00:04.000\nBye"
    assert parse(text, "a.vtt").text == "Hello there\nBye"
