"""Every command of the documentation runs as shown and prints what its page shows, and every link leads somewhere.

After a change of the output of commands: `python -m tests.docs.update` writes the new output into the pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs.deployment import Deployment, pages_deployment
from tests.docs.pages import ROOT, Page, all_pages, anchor, matches

PAGES = all_pages()
#: More than these would mean that readers are the first to try the commands.
MAX_NOT_RUN = 5
MAX_LINE = 120
#: Programs write these; nobody reads them as text.
_GENERATED = (ROOT / "docs" / "reference", ROOT / "docs" / "explanation" / "benchmarks.md")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with pages_deployment() as deployment:
        yield deployment


@pytest.mark.parametrize("page", [p for p in PAGES if p.blocks], ids=lambda page: page.name)
def test_the_commands_of_a_page_run_and_print_what_it_shows(
    deployment: Deployment, page: Page
) -> None:
    blocks, run = deployment.run(page)
    if run.code:
        failed = blocks[max(len(run.outputs) - 1, 0)]
        pytest.fail(f"{page.name}:{failed.line}: exit code {run.code}\n{run.outputs[-1]}")
    different = [
        f"{page.name}:{block.line}: the page shows\n"
        + "\n".join(block.output)
        + f"\nbut the command prints\n{output}"
        for block, output in zip(blocks, run.outputs)
        if block.output is not None and not matches(block.output, output.splitlines())
    ]
    assert not different, "\n\n".join(different)


def test_few_blocks_are_not_run() -> None:
    not_run = [(page.name, block.line) for page in PAGES for block in page.blocks if block.not_run]
    assert len(not_run) <= MAX_NOT_RUN, not_run


def test_every_link_leads_to_a_file_and_a_title() -> None:
    titles = {page.path: {anchor(title) for title in page.titles} for page in PAGES}
    broken = []
    for page in PAGES:
        for line, target in page.links:
            name, _, title = target.partition("#")
            path = (page.path.parent / name).resolve() if name else page.path
            if not path.exists() or (title and title not in titles.get(path, set())):
                broken.append(f"{page.name}:{line}: {target}")
    assert not broken, "\n".join(broken)


def test_every_page_can_be_reached_from_the_readme() -> None:
    """A page that no other one links to is a page that nobody reads."""
    links = {
        page.path: {
            (page.path.parent / target.partition("#")[0]).resolve() for _, target in page.links
        }
        for page in PAGES
    }
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        waiting += [target for target in links[page] if target in links]
    assert {page.path for page in PAGES} == reached


def test_pages_are_easy_to_read_as_text() -> None:
    long = [
        f"{page.name}:{number}"
        for page in PAGES
        if not any(page.path.is_relative_to(path) for path in _GENERATED)
        for number, line in enumerate(page.path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > MAX_LINE and not line.startswith("|") and "](" not in line
    ]
    assert not long, "\n".join(long)


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")
    messages = re.findall(r"\*\*`([^`]+)`\*\*", page)
    messages += re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.M)))
    files = [path for room in ("rag_assets", "resources") for path in (ROOT / room).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    # A message that fills several lines of code is one text; the place of a value is `…` on the page.
    code = re.sub(r"{[^{}]*}", "…", re.sub(r'"\s*f?"', "", code))
    parts = [part.strip() for message in messages for part in message.split("…")]
    unknown = [part for part in parts if len(part) > 3 and part not in code]
    assert len(parts) > 50
    assert not unknown, unknown
