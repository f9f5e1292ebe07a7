"""Jupyter notebooks → Markdown: the cells as they are, code and the texts of its outputs in fences.

Pictures and widgets are left out, and so is HTML if the output has the same as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from resources.errors import ParseError
from resources.parsing.extraction import extract_html
from resources.parsing.formats import HTML

#: What programs print in place of a picture: `<Figure size 640x480 with 1 Axes>`.
_PLACEHOLDER = re.compile(r"<[^<>\n]{1,200}>")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_REWRITTEN = re.compile(r"[^\n\r]*+\r(?=[^\n\r])")
_FENCE = re.compile(r"`{3,}")
_LANGUAGE = re.compile(r"[\w+#.-]{1,30}")


def notebook_markdown(text: str) -> str:
    """Return the cells in order. Raises ParseError if the text is no notebook."""
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"the Jupyter notebook is not valid JSON: {error}") from None
    if not isinstance(notebook, dict):
        raise ParseError("the Jupyter notebook has no cells")
    language = _language(notebook)
    return "\n\n".join(block for cell in _cells(notebook) for block in _blocks(cell, language))


def _cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    # Before version 4, the cells stood in worksheets.
    sheets = notebook.get("worksheets")
    for sheet in [notebook, *(sheets if isinstance(sheets, list) else [])]:
        cells = sheet.get("cells") if isinstance(sheet, dict) else None
        if isinstance(cells, list):
            yield from (cell for cell in cells if isinstance(cell, dict))


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for about_name, name in (("language_info", "name"), ("kernelspec", "language")):
        about = metadata.get(about_name) if isinstance(metadata, dict) else None
        stated = about.get(name) if isinstance(about, dict) else None
        if isinstance(stated, str) and _LANGUAGE.fullmatch(stated):
            return stated
    return ""


def _blocks(cell: dict[str, Any], language: str) -> Iterator[str]:
    source = _joined(cell.get("source", cell.get("input"))).strip("\n")
    kind = cell.get("cell_type")
    if kind != "code":
        if kind == "heading":
            level = cell.get("level")
            marks = "#" * level if isinstance(level, int) and 1 <= level <= 6 else "#"
            source = f"{marks} {source}"
        if source.strip():
            yield source
        return
    if source.strip():
        yield _fenced(source, language)
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if isinstance(output, dict):
            yield from _output(output)


def _output(output: dict[str, Any]) -> Iterator[str]:
    data = output.get("data", output)
    if not isinstance(data, dict):
        return
    if markdown := _joined(data.get("text/markdown")).strip():
        yield markdown
        return
    text = _joined(data.get("text/plain", output.get("text")))
    if output.get("output_type") in ("error", "pyerr"):
        text = f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
    # Of a line that its program rewrites, such as a progress bar, the last form.
    text = _REWRITTEN.sub("", _ESCAPES.sub("", text).replace("\r\n", "\n")).strip("\n")
    if text.strip() and not _PLACEHOLDER.fullmatch(text.strip()):
        yield _fenced(text, "")
    elif latex := _joined(data.get("text/latex")).strip():
        yield latex
    elif values := data.get("application/json"):
        yield _fenced(json.dumps(values, ensure_ascii=False, indent=1), "json")
    elif (html := _joined(data.get("text/html"))).strip():
        try:
            content = extract_html(html, HTML).markdown.strip()
        except ParseError:
            return
        if content:
            yield content


def _fenced(text: str, language: str) -> str:
    fence = "`" * max([3, *(len(run) + 1 for run in _FENCE.findall(text))])
    return f"{fence}{language}\n{text}\n{fence}"


def _joined(value: object) -> str:
    """Return the text of a cell, which is a text or a list of lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""
