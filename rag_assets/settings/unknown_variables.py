"""`RAG_*` variables that nothing reads: most are misspelt, and the setting that was meant keeps its default."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rag_assets.settings.load import Settings, settings_file

#: Read by other modules than `Settings`.
_READ_ELSEWHERE = frozenset({"RAG_CREDENTIALS_KEY", "RAG_FAULT", "RAG_FAULT_SIGNAL"})

#: The tests and benchmarks read variables of their own.
_OF_TESTS = re.compile(
    r"RAG_(TEST|BENCH|FAULT|SWEEP|STATEFUL|SERVER_FAULT|MISREADS|SOAK|DOCS|PYTEST)(_|$)"
)

_log = logging.getLogger(__name__)


class UnknownVariable(NamedTuple):
    """A variable that nothing reads. `place`: "the environment" or the settings file; `nearest`: "" if none is near."""

    name: str
    place: str
    nearest: str

    def __str__(self) -> str:
        hint = f" Did you mean {self.nearest}?" if self.nearest else " List them with: rag settings"
        return f"{self.name} in {self.place} is not a setting and is ignored.{hint}"


def unknown_variables(environment: Mapping[str, str], file: Path) -> list[UnknownVariable]:
    """Return the unknown `RAG_*` variables of the environment and of the settings file."""
    names = [name.upper() for name in Settings.model_fields]
    referenced = set(re.findall(r"@(RAG_\w+)", " ".join(sys.argv)))
    found = [
        *((name, "the environment") for name in environment),
        *((name, str(file)) for name in _names_in(file)),
    ]
    return [
        UnknownVariable(name, place, _nearest(name, names))
        for name, place in found
        if name.startswith("RAG_")
        and name.removeprefix("RAG_") not in names
        and name not in _READ_ELSEWHERE | referenced
        and not _OF_TESTS.match(name)
    ]


def warn_of_unknown_variables(home: Path) -> None:
    """Log each unknown variable once in the life of this process."""
    for variable in unknown_variables(os.environ, settings_file(home)):
        _warn(str(variable))


@cache
def _warn(message: str) -> None:
    _log.warning(message)


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.removeprefix("RAG_"), names, n=1, cutoff=0.7)
    return f"RAG_{near[0]}" if near else ""


def _names_in(file: Path) -> list[str]:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return re.findall(r"^\s*(?:export\s+)?(RAG_\w+)\s*=", text, re.MULTILINE)
