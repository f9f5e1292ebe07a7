"""Subtitles (SubRip, WebVTT) → the spoken lines, with the names of the speakers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

_TIMES = re.compile(r"^\s*(?:\d+:)?\d+:\d+(?:[.,]\d+)?\s*-->\s*(?:\d+:)?\d+:\d+")
_NUMBER = re.compile(r"\s*\d+\s*")
_HEADER = re.compile(r"WEBVTT(?:[ \t]+(?P<title>.*))?$")
_VOICE = re.compile(r"<v(?:\.[\w.]*)?[ \t]+([^<>\n]{1,200})>")
#: Tags, times of single words, and the styles of SubStation; not the signs of `a < b`.
_MARK = re.compile(r"</?[A-Za-z][^<>\n]{0,500}>|<[\d:.]+>|\{\\[^{}\n]*\}")
_BREAK = re.compile(r"\\[Nnh]")


def subtitles_text(text: str) -> str:
    """Return the spoken lines, without numbers, identifiers, times, notes, styles and immediate repetitions."""
    lines = text.split("\n")
    header = _HEADER.match(lines[0].lstrip("\ufeff"))
    spoken = [title] if header and (title := (header["title"] or "").strip(" -\t")) else []
    speaker = ""
    for line in _spoken_in_vtt(lines) if header else _spoken_in_srt(lines):
        voices = _VOICE.findall(line)
        speech = _MARK.sub("", _BREAK.sub(" ", _VOICE.sub("", line)))
        speech = (unescape(speech) if "&" in speech else speech).strip()
        if voices and voices[0] != speaker:
            speaker = voices[0]
            speech = f"{speaker.strip()}: {speech}" if speech else ""
        if speech and speech != (spoken[-1] if spoken else ""):
            spoken.append(speech)
    return "\n".join(spoken)


def _spoken_in_vtt(lines: list[str]) -> Iterator[str]:
    """Yield the lines behind times, up to an empty line. All else are identifiers, notes and styles."""
    is_cue = False
    for line in lines:
        if _TIMES.match(line):
            is_cue = True
        elif not line.strip():
            is_cue = False
        elif is_cue:
            yield line


def _spoken_in_srt(lines: list[str]) -> Iterator[str]:
    """Yield all lines but times and the numbers directly above them. A cue may contain empty lines."""
    is_below_times = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if _TIMES.match(line):
            is_below_times = True
            continue
        # A number directly below times is spoken.
        if is_below_times or not (_NUMBER.fullmatch(line) and _TIMES.match(following)):
            yield line
        is_below_times = False
