"""Web pages: main content, menus and furniture, on handmade pages."""

from __future__ import annotations

import time

import pytest

from resources.errors import ParseError
from resources.parsing.header_rows import join_header_rows
from resources.parsing.inline_marks import join_words
from resources.parsing.web_page import content_of
from tests.support.parsed import (
    ENGLISH,
    parse,
)


def test_menus_of_links_are_removed_and_links_in_sentences_stay() -> None:
    menu = "".join(f"<li><a href='/{n}'>Topic number {n}</a></li>" for n in range(20))
    prose = f"<p>{ENGLISH} <a href='/fox'>Foxes</a> jump.</p>" * 8
    page = parse(f"<html><body><ul>{menu}</ul>{prose}</body></html>", "a.html").text
    assert "Topic number" not in page
    assert page.count("Foxes") == 8
    assert "Topic number 7" in parse(f"<html><body><ul>{menu}</ul></body></html>", "a.html").text


def test_html_is_reduced_to_its_main_content() -> None:
    page = f"""<!doctype html><html lang="en"><head><title>A &amp; B</title><meta name="author" content="Ada">
    <script>var x = "hidden"</script></head><body><nav>Menu</nav><main><h1>Head</h1><p>{ENGLISH}</p>
    <pre><code>a = b_c
# same block</code></pre><img src="http://127.0.0.1:9/pixel.png" alt="a picture"></main><footer>Imprint</footer></body>"""
    # Without a suffix, the content decides.
    document = parse(page, "page")
    assert (document.title, document.author, document.mime_type) == ("A & B", "Ada", "text/html")
    assert (
        document.markdown and "# Head" in document.text and "a = b_c\n# same block" in document.text
    )
    assert "a picture" in document.text
    for noise in ("Menu", "Imprint", "hidden", "pixel.png", "title:"):
        assert noise not in document.text


def test_a_table_of_one_cell_is_layout() -> None:
    page = f"<table><tr><td><h1>Head</h1><p>{ENGLISH} a|b</p></td></tr></table><table><tr><td>x</td><td>y</td></tr></table>"
    document = parse(
        f"<body>{page}<table><tr><th>one</th></tr><tr><td>two</td></tr></table></body>", "a.html"
    )
    assert document.text.startswith("Head") and f"{ENGLISH} a|b\n" in document.text
    assert "| x | y |" in document.text and "| one |" in document.text


def test_html_furniture_may_be_nested_or_never_closed() -> None:
    page = "<body><nav>a<nav>b</nav>c</nav><p>kept</p><footer>d</footer><p>too</p><aside>open<p>end</p>"
    assert parse(page, "a.html").text.split() == ["kept", "too", "open", "end"]


PROSE = f"<p>{ENGLISH}</p>"


@pytest.mark.parametrize(
    "page",
    [
        # What stands in the content is content; the same elements around it are not.
        "<body><aside>zz</aside><main>{prose}<aside>Kept</aside><footer>kept</footer></main><footer>zz</footer></body>",
        "<body><nav>zz</nav><div role='main'>{prose}<aside role='note'>Kept</aside>kept</div><div role='contentinfo'>zz"
        "</div></body>",
        "<article>{prose}<aside>Kept</aside></article><article>{prose}<footer>kept</footer></article><footer>zz</footer>",
        "<article>{prose}Kept<article>kept, an answer</article></article><aside>zz</aside>",
        "<body><div id='content'><div>{prose}</div><aside>Kept</aside></div><div><aside>zz</aside></div>"
        "<blockquote>{prose}<footer>kept</footer></blockquote></body>",
        "<body><div class='x'>{prose}<aside>Kept</aside>{prose}</div><div>{prose}<aside>kept</aside></div>"
        "<footer><aside>zz</aside></footer></body>",
        "<body>{prose}<aside>Kept</aside>{prose}<figure>x<footer>kept</footer></figure><aside>zz</aside></body>",
        "<body><header><h1>Kept</h1><nav>zz</nav></header><div>{prose}</div><section>{prose}<footer>kept</footer>"
        "</section><div role='navigation'>zz</div></body>",
        "<main>{prose}<noscript><p>Kept</p></noscript><template>kept</template></main><noscript>zz</noscript>",
        "<main>{prose}<nav><p>Kept and kept</p></nav><nav><a href='/'>zz</a> <b>zz</b></nav></main>",
        "<body><aside role='doc-tip'>Kept</aside><footer>zz</footer><aside role='note'>kept</aside></body>",
        "<body><main>{prose}<div class='a' title='a > <nav>b'>Kept</div><!-- <aside> -->kept</main><footer>zz</footer>",
    ],
)  # fmt: skip
def test_elements_inside_of_the_content_are_kept_and_furniture_is_not(page: str) -> None:
    text = parse(page.replace("{prose}", PROSE), "a.html").text
    assert "Kept" in text and "kept" in text and "zz" not in text


def test_a_page_of_furniture_alone_is_read() -> None:
    assert "Imprint" in parse("<body><footer><p>Imprint</p></footer></body>", "a.html").text
    with pytest.raises(ParseError, match="no text"):
        parse("<body><noscript>Enable JavaScript</noscript></body>", "a.html")


def test_rows_of_names_of_a_table_become_one() -> None:
    head = "<tr><th rowspan=2>Sort</th><th colspan=2>Q1</th></tr><tr><th>Jan</th><th>Feb</th></tr>"
    row = "<tr><td>a</td><td>1</td><td>2</td></tr>"
    for rows in (f"<thead>{head}</thead><tbody>{row}</tbody>", head + row):
        lines = parse(f"<main><table>{rows}</table></main>", "a.html").text.split("\n")
        assert " ".join(lines[0].split()) == "| Sort | Q1 Jan | Q1 Feb |"
    titled = f"<table><tr><th colspan=2>FLEET</th></tr><tr><th>a</th><th>b</th></tr>{row}</table>"
    text = parse(titled, "a.html").text
    assert "FLEET" in text and "| a " in text.split("FLEET")[1]
    # The heading of a group of rows is no name of a column.
    groups = f"<table><tr><th>Year</th><th>Sum</th></tr><tr><th>2025</th></tr>{row}</table>"
    assert "| Year" in parse(groups, "a.html").text


@pytest.mark.parametrize(
    "page",
    [
        "<aside><nav>" * 20_000 + "x",
        "<main>" * 20_000 + "x",
        "<section>" * 20_000 + "</section>" * 20_000,
        '<a ="' * 30_000,
        "<script>" * 30_000,
        "<!--" * 30_000,
        "<table><tr><th>" * 10_000,
        "<p>{-a" * 20_000,
        "&lt;!-- MathML: " * 20_000,
    ],
    ids=lambda page: page[:9],
)
def test_broken_html_takes_linear_time(page: str) -> None:
    start = time.process_time()
    join_words(join_header_rows(content_of(page)))
    # A quadratic pass would take minutes.
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        # Pages of ASP.NET are one form.
        (
            "<body><form><h1>Gates</h1><p>North44 shut.</p></form></body>",
            "# Gates\n\nNorth44 shut.",
        ),
        # A cell without an end tag in a table of one row, which may hold another table.
        ("<table><tr><td>Kiel<td>44</table><p>Below</p>", "Below"),
        ("<table><tr><td>Kiel<td><table><tr><td>44<td>5</table></table><p>Below</p>", "Below"),
        ("<div>" * 200 + "deep" + "</div>" * 200 + "<p>flat</p>", "deep  \n\nflat"),
        ("<p>" + "<span>" * 200 + "deep" + "</span>" * 200 + "er</p>", "deeper"),
        ("<p>It is <math><mi>x</mi><mo>=</mo><mn>5</mn></math> here.</p>", "It is x=5 here."),
        ("<p><del>old</del> <ins>new</ins> <mark>set</mark></p>", "~~old~~ new set"),
        # A script ends at its empty tag in XHTML.
        ("<?xml version='1.0'?><html><head><script src='a'/></head><p>shown</p></html>", "shown"),
        ("<p>این <b>باز</b>رسی</p>", "این بازرسی"),
    ],
)
def test_no_tag_costs_the_text_around_it(html: str, expected: str) -> None:
    assert parse(html, "a.html").text.endswith(expected)


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        # React sends parts later, hidden, with a script that moves them.
        (
            '<main><p>Shell</p><!--$?--><template id="B:0"></template><p>Loading</p><!--/$--><p>End</p></main>'
            '<div hidden id="S:0"><div>Later <template id="P:1"></template></div></div><script>$RC("B:0","S:0")</script>'
            '<div hidden id="S:1"><b>inner</b></div><script>$RS("S:1","P:1")</script>',
            "Shell\n\nLater *inner*\n\nEnd",
        ),
        # What a click shows.
        (
            "<div role=tabpanel>pip</div><div role='tabpanel' hidden>conda</div><p hidden='until-found'>more</p><p hidden>no</p>",
            "pip\n\nconda\n\nmore",
        ),
        # Line numbers in a cell of their own, and in the code.
        (
            '<table class="rouge-table"><tr><td class="gutter"><pre class="lineno">1\n2\n</pre></td>'
            "<td><pre><b>def</b> f():\n  pass\n</pre></td></tr></table>",
            "```\ndef f():\n  pass\n```",
        ),
        (
            '<pre><code><span class="ln"> 1</span>a = 1\n<span class="ln"> 2</span>b = 2</code></pre>',
            "```\na = 1\nb = 2\n```",
        ),
        # A formula in three forms.
        (
            '<p>E <span class="katex"><math><mi>E</mi><annotation encoding="application/x-tex">a_1 &lt; b</annotation></math>'
            '<span class="katex-html" aria-hidden="true"><span>a</span><span>1</span></span></span> ok</p>',
            "E `$a_1 < b$` ok",
        ),
        ("<p>So <script type='math/tex'>x < y</script>.</p>", "So `$x < y$`."),
        (
            "<svg><title>Icon</title><g><text x='1'>Pump</text><text><tspan>North</tspan><tspan>44</tspan></text></g></svg>",
            "Pump  \nNorth 44",
        ),
        ("<app-root><my-title>Gates</my-title><my-text>shut</my-text></app-root>", "Gates shut"),
        ("<p>AT&T &copy 2024&nbsp x <a href='?a=1&copy=2'>l</a></p>", "AT&T © 2024 x [l](?a=1&copy=2)"),
    ],
    ids=(
        *("streamed", "tabs", "numbers in a cell", "numbers in code", "formula", "script", "drawing"),
        *("own elements", "names without semicolon"),
    ),
)  # fmt: skip
def test_parts_that_scripts_and_styles_show_are_read_once(html: str, expected: str) -> None:
    assert parse(f"<body>{html}</body>", "a.html").text == expected
