"""Jupyter notebooks: cells and outputs as Markdown."""

from __future__ import annotations

import json

import pytest

from resources.errors import ParseError
from tests.support.parsed import parse


def test_cells_and_texts_of_outputs_are_read_as_they_are() -> None:
    cells = [
        {
            "cell_type": "markdown",
            "source": ["# Größe\n", "![plan](attachment:x.png) `a_b`\n", "\n", "| a | b |\n|---|---|\n"],
        },
        {
            "cell_type": "code",
            "source": "print('a_b')\n# no heading",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["hello *w*\n", "```\n"]},
                {"output_type": "display_data", "data": {"image/png": "iVBOR", "text/plain": ["<Figure size 6x4>"]}},
                {"output_type": "execute_result", "data": {"text/html": "<table>", "text/plain": "   h\n0  1"}},
                {"output_type": "error", "ename": "ValueError", "evalue": "bad", "traceback": ["\x1b[0;31mx"]},
            ],
        },
        {"cell_type": "raw", "source": "raw"},
    ]  # fmt: skip
    metadata = {"language_info": {"name": "python"}}
    document = parse(json.dumps({"nbformat": 4, "metadata": metadata, "cells": cells}), "a.ipynb")
    assert document.title == "Größe"
    assert document.text.split("\n\n") == [
        "# Größe\n![plan](attachment:x.png) `a_b`",
        "| a | b |\n|---|---|",
        "```python\nprint('a_b')\n# no heading\n```",
        "````\nhello *w*\n```\n````",
        "```\n   h\n0  1\n```",
        "```\nValueError: bad\n```",
        "raw",
    ]


def test_html_is_read_if_the_output_has_no_text() -> None:
    html = "<table><tr><th>Port</th></tr><tr><td>Kiel</td></tr></table>"
    output = {"data": {"text/html": html, "text/plain": "<IPython.core.display.HTML object>"}}
    cells = [{"cell_type": "code", "source": "x", "outputs": [output]}]
    document = parse(json.dumps({"nbformat": 4, "metadata": {}, "cells": cells}), "a.ipynb")
    assert document.text.endswith("| Port |\n| ---- |\n| Kiel |")


def test_formulas_data_and_the_last_form_of_a_line_are_read() -> None:
    outputs = [
        {"data": {"text/latex": "$x^2$", "text/plain": "<IPython.core.display.Latex object>"}},
        {"data": {"application/json": {"port": "Kiel"}}},
        {"output_type": "stream", "text": ["a\r50%\r100%\n", "done\r\n"]},
    ]
    cells = [{"cell_type": "code", "source": "x", "outputs": outputs}]
    text = parse(json.dumps({"nbformat": 4, "metadata": {}, "cells": cells}), "a.ipynb").text
    assert text.split("\n\n")[1:] == [
        "$x^2$",
        '```json\n{\n "port": "Kiel"\n}\n```',
        "```\n100%\ndone\n```",
    ]


def test_notebooks_of_older_versions_have_worksheets() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "T"},
        {"cell_type": "code", "input": "x = 1"},
    ]
    notebook = {"nbformat": 3, "worksheets": [{"cells": cells}]}
    assert parse(json.dumps(notebook), "a.ipynb").text == "## T\n\n```\nx = 1\n```"


@pytest.mark.parametrize("text", ["{", "[1]", '{"cells": 7}', '{"cells": [7, {"source": 7}]}'])
def test_what_is_no_notebook_has_a_reason(text: str) -> None:
    with pytest.raises(ParseError, match="Jupyter notebook"):
        parse(text, "a.ipynb")
