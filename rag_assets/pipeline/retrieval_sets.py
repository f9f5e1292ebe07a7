"""Retrieval sets as files in BEIR's layout: queries as JSON lines, judgements (qrels) as tab-separated values.

`queries.jsonl`: one object per line with `_id` (or `id`) and `text`. Judgements: a header, then query-id, corpus-id (a
document's key) and score; the columns `start` and `end` (code points of the document's text) limit one to a passage.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Maximum problems that one error lists.
MAX_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Judgement:
    """`span`: of the document's text in code points; None for the whole document."""

    query: str
    document: str
    score: int
    span: tuple[int, int] | None = None


def read_queries(lines: Iterable[str]) -> dict[str, str]:
    """Return id -> text. Raises ValueError with the problems, line by line."""
    queries: dict[str, str] = {}
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
            found = _excerpt(line)
            problems.append(f'line {number}: expected {{"_id": …, "text": …}}, found {found}')
        elif queries.setdefault(str(name), text.strip()) != text.strip():
            problems.append(f"line {number}: query {name!r} occurs twice, with different texts")
    if not queries and not problems:
        problems.append("expected one query per line, found none")
    _raise_if_any(problems)
    return queries


def read_judgements(lines: Iterable[str], queries: Mapping[str, str]) -> list[Judgement]:
    """Return the judgements with a score above 0. Raises ValueError with the problems, line by line."""
    rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    header = [name.strip() for name in next(rows, [])]
    columns = {name: index for index, name in enumerate(header)}
    if missing := {"query-id", "corpus-id", "score"} - columns.keys():
        raise ValueError(
            f"line 1: expected the columns query-id, corpus-id, score (and start, end for passages), "
            f"tab-separated; {', '.join(sorted(missing))} not found in {_excerpt(' '.join(header))}"
        )
    judgements: list[Judgement] = []
    problems: list[str] = []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        try:
            judgement = _judgement(row, columns)
        except (ValueError, IndexError):
            problems.append(
                f"line {number}: expected {', '.join(header)}; score, start and end as whole numbers, "
                f"start < end; found {_excerpt(' '.join(row))}"
            )
            continue
        if judgement.query not in queries:
            problems.append(f"line {number}: query {judgement.query!r} is not among the queries")
        elif judgement.score > 0:
            judgements.append(judgement)
    if not judgements and not problems:
        problems.append("expected one judgement per line with a score above 0, found none")
    _raise_if_any(problems)
    return judgements


def _judgement(row: list[str], columns: Mapping[str, int]) -> Judgement:
    span = None
    if "start" in columns and "end" in columns:
        span = int(row[columns["start"]]), int(row[columns["end"]])
        if not 0 <= span[0] < span[1]:
            raise ValueError
    score = int(row[columns["score"]])
    return Judgement(row[columns["query-id"]], row[columns["corpus-id"]], score, span)


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


def _raise_if_any(problems: list[str]) -> None:
    if problems:
        others = len(problems) - MAX_PROBLEMS
        more = [f"and {others} more"] if others > 0 else []
        raise ValueError("\n  ".join([*problems[:MAX_PROBLEMS], *more]))
