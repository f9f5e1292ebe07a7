"""The demo's questions: asked, judged by the sentence that is shown, and printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.cells import cell_len
from rich.text import Text

from rag_assets.cli.excerpts import excerpt
from rag_assets.cli.output import is_verbose, out
from rag_assets.deployment import Deployment
from rag_assets.pipeline.hits import Hit
from rag_assets.search.passages import Passage, best_passage
from rag_assets.search.request import AccessScope, SearchRequest
from resources.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Question:
    """`answer`: the words that the sentence must contain; `expect`: the document that it must come from."""

    text: str
    language: str
    expect: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, its best hit, and the sentence of that hit that fits the question best."""

    question: Question
    hit: Hit | None
    passage: Passage
    milliseconds: float

    @property
    def is_right(self) -> bool:
        """Whether the one sentence that is shown has the answer: the right document alone is not enough."""
        question = self.question
        found = self.hit is not None and self.hit.key == question.expect
        return found and question.answer in self.passage.text


def read_questions(file: Path) -> list[Question]:
    try:
        questions = [Question(**item) for item in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{file}: expected a JSON list of questions with text, language, expect and answer: {error}"
        ) from None
    if unanswered := [question.text for question in questions if not question.answer]:
        raise ConfigError(f"{file}: without an answer to expect: {'; '.join(unanswered)}")
    return questions


def find(deployment: Deployment, questions: Iterable[Question]) -> list[Answered]:
    """Return the best hit of each question, with its whole text as the passage: across languages no sentence fits."""
    return list(_answers(deployment, questions, lambda hit, _: Passage(hit.content)))


def show_both(before: Answered, after: Answered) -> None:
    """Print a question and the document that each of two models found."""
    _print_line(Text.assemble((f"{after.question.language}  ", "dim"), after.question.text))
    mark = ("✓", "bold green") if after.is_right else ("✗", "bold red")
    found, instead = (a.hit.key if a.hit else "nothing" for a in (after, before))
    _print_line(Text.assemble(" ", mark, f"  {found}  ", (f"by words: {instead}", "dim")))


def ask(deployment: Deployment, questions: Iterable[Question]) -> list[Answered]:
    """Ask every question and print it with the sentence that answers it."""
    answers: list[Answered] = []
    for answered in _answers(
        deployment, questions, lambda hit, question: best_passage(hit.content, question.text)
    ):
        answers.append(answered)
        _print(answered)
    return answers


def _answers(
    deployment: Deployment,
    questions: Iterable[Question],
    passage_of: Callable[[Hit, Question], Passage],
) -> Iterator[Answered]:
    with deployment.searcher() as searcher:
        for question in questions:
            answer = searcher.answer(SearchRequest(question.text, k=1), AccessScope.owner())
            hit = answer.hits[0] if answer.hits else None
            passage = passage_of(hit, question) if hit else Passage("nothing found")
            yield Answered(question, hit, passage, answer.milliseconds)


def _print(answered: Answered) -> None:
    question, hit = answered.question, answered.hit
    _print_line(Text.assemble((f"{question.language}  ", "dim"), question.text))
    mark = ("✓", "bold green") if answered.is_right else ("✗", "bold red")
    suffix = PurePosixPath(hit.key).suffix.lstrip(".") if hit else ""
    start = Text.assemble(" ", mark, "  ", (f"{suffix:5}", "dim"))
    at = answered.passage.text.find(question.answer)
    marks = [(at, at + len(question.answer))] if at >= 0 else []
    room = out.width - cell_len(start.plain)
    _print_line(Text.assemble(start, excerpt(answered.passage, room, marks)))
    if not answered.is_right:
        _print_line(Text(f"    expected “{question.answer}” in {question.expect}", "red"))
    if is_verbose() and hit:
        page = f", p. {hit.page}" if hit.page else ""
        _print_line(
            Text(
                f"    {hit.source}/{hit.key} #{hit.position}{page}, dense {hit.dense_score or 0:.3f}, "
                f"sparse {hit.sparse_score or 0:.3f}, {answered.milliseconds:.0f} ms",
                "dim",
            )
        )


def _print_line(text: Text) -> None:
    out.print(text, soft_wrap=True)
