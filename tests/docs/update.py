"""Writes the output of the commands into the pages that show another one: `python -m tests.docs.update [PAGE ...]`.

Read the difference before you commit it. `…` in a page is lost where its output differs.
"""

from __future__ import annotations

import sys

from tests.docs.deployment import pages_deployment
from tests.docs.pages import ROOT, all_pages, matches, read_page, shown_output


def main(names: list[str]) -> None:
    pages = [read_page(ROOT / name) for name in names] or [
        page for page in all_pages() if page.blocks
    ]
    with pages_deployment() as deployment:
        for page in pages:
            blocks, run = deployment.run(page)
            if run.code:
                print(f"{page.name}: exit code {run.code} after:\n{''.join(run.outputs[-1:])}")
            lines = page.path.read_text(encoding="utf-8").splitlines()
            # From the end, so that the numbers of the lines before stay true.
            for block, output in reversed(list(zip(blocks, run.outputs))):
                if block.output is not None and not matches(block.output, output.splitlines()):
                    first = block.output_line
                    lines[first : first + len(block.output)] = shown_output(output)
                    print(f"{page.name}:{first}: updated")
            page.path.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
