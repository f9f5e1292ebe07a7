"""Retrieval sets as files in BEIR's layout: queries as JSON lines, judgements (qrels) as tab-separated values.

`queries.jsonl`: an object a line with `_id` (or `id`) and `text`. Judgements: a header, then query-id, corpus-id (a
document's key) and score; with columns `start` and `end` (code points of the document's text) that passage is meant.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Problems that are told at once.
TOLD = 10


@dataclass(frozen=True, slots=True)
class Judgement:
    """`span`: of the document's text in code points; None: the whole document."""

    query: str
    document: str
    score: int
    span: tuple[int, int] | None = None


def read_queries(lines: Iterable[str]) -> dict[str, str]:
    """id -> text. Raises ValueError that lists what is wrong, line by line."""
    found: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        name = row.get("_id", row.get("id")) if isinstance(row, dict) else None
        text = row.get("text") if isinstance(row, dict) else None
        if name is None or not isinstance(text, str) or not text.strip() or "\x00" in text:
            problems.append(f'line {number}: expected {{"_id": …, "text": …}}, found {_cut(line)}')
        elif found.setdefault(str(name), text.strip()) != text.strip():
            problems.append(f"line {number}: query {name!r} is there twice, with another text")
    if not found and not problems:
        problems.append("expected a query a line, found none")
    _raise(problems)
    return found


def read_judgements(lines: Iterable[str], queries: Mapping[str, str]) -> list[Judgement]:
    """Those with a score above 0, of these queries. Raises ValueError that lists what is wrong, line by line."""
    rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    header = [name.strip() for name in next(rows, [])]
    columns = {name: at for at, name in enumerate(header)}
    if missing := {"query-id", "corpus-id", "score"} - columns.keys():
        raise ValueError(
            f"line 1: expected the columns query-id, corpus-id, score (and start, end for passages), "
            f"tab-separated; {', '.join(sorted(missing))} not found in {_cut(' '.join(header))}"
        )
    found: list[Judgement] = []
    problems: list[str] = []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        try:
            judgement = _judgement(row, columns)
        except (ValueError, IndexError):
            problems.append(
                f"line {number}: expected {', '.join(header)}; score, start and end as whole numbers, "
                f"start < end; found {_cut(' '.join(row))}"
            )
            continue
        if judgement.query not in queries:
            problems.append(f"line {number}: query {judgement.query!r} is not among the queries")
        elif judgement.score > 0:
            found.append(judgement)
    if not found and not problems:
        problems.append("expected a judgement a line with a score above 0, found none")
    _raise(problems)
    return found


def _judgement(row: list[str], columns: Mapping[str, int]) -> Judgement:
    span = None
    if "start" in columns and "end" in columns:
        span = int(row[columns["start"]]), int(row[columns["end"]])
        if not 0 <= span[0] < span[1]:
            raise ValueError
    score = int(row[columns["score"]])
    return Judgement(row[columns["query-id"]], row[columns["corpus-id"]], score, span)


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


def _raise(problems: list[str]) -> None:
    if problems:
        more = [f"and {len(problems) - TOLD} more"] if len(problems) > TOLD else []
        raise ValueError("\n  ".join([*problems[:TOLD], *more]))
