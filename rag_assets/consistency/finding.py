"""The result of one check of one source, as data. No Dagster, no store.

Decisions read `outcome`, `remedy` and `key`. The sentence, the command and the evidence are for people.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resources.postgres.consistency.check_results import Form, Inconsistency, Outcome, Remedy

#: Maximum rows of evidence that are shown. Each needs reads for its document, so no others are looked up.
EVIDENCE_ROWS = 100

#: The command of each remedy. A person gets the command from the check, which knows the case.
COMMANDS: Mapping[Remedy, str] = {
    "repair": "rag repair --source {source}",
    "rebuild": "rag rebuild milvus",
    "check": "rag check --source {source}",
}


def command_for(remedy: Remedy, source: str) -> str:
    """Return the command line of a remedy for a source; empty for "person"."""
    return COMMANDS.get(remedy, "").format(source=shlex.quote(source))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a check. "undetermined": a fault is neither proved nor excluded.

    `key`: every id or fact found, never cut; two findings with the same key are the same finding. `inconsistency`: the
    one of the four kinds that the faults belong to, None if none fits. `rows`: evidence under `columns`. `applicable`:
    False if there was nothing to check; such a finding passes, but proves nothing, so reports count it separately.
    """

    outcome: Outcome
    sentence: str
    remedy: Remedy | None = None
    command: str = ""
    key: frozenset[str] = frozenset()
    inconsistency: Inconsistency | None = None
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    applicable: bool = True

    def __post_init__(self) -> None:
        if (self.outcome == "passed") != (self.remedy is None):
            raise ValueError(f"a finding that {self.outcome} has remedy {self.remedy}")
        if not self.applicable and self.outcome != "passed":
            raise ValueError(f"a finding that {self.outcome} applies")

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    def digest(self, form: Form) -> str:
        """Return the digest of the key; empty if two findings of this form and outcome cannot be compared.

        The quick form draws another sample each time, and contradicting reads hit other rows each time.
        """
        if (form, self.outcome) not in (("full", "failed"), ("quick", "undetermined")):
            return ""
        return hashlib.sha256(json.dumps(sorted(self.key)).encode()).hexdigest()[:32]


def conclude(
    outcome: Outcome,
    sentence: str,
    *,
    source: str,
    remedy: Remedy = "repair",
    command: str = "",
    key: Iterable[str] = (),
    inconsistency: Inconsistency | None = None,
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[object]] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Finding:
    """Return the finding of a check: with remedy, command and key unless it passed. `command`: if not the remedy's."""
    evidence: Mapping[str, Any] = {"columns": columns, "rows": rows, "metadata": metadata or {}}
    if outcome == "passed":
        return Finding(outcome=outcome, sentence=sentence, **evidence)
    return Finding(
        outcome=outcome,
        sentence=sentence,
        remedy=remedy,
        command=command or command_for(remedy, source),
        key=frozenset(key),
        inconsistency=inconsistency,
        **evidence,
    )


def not_applicable(sentence: str) -> Finding:
    """Return the finding of a check that has nothing to check. `sentence`: the reason."""
    return Finding(outcome="passed", sentence=f"not applicable: {sentence}", applicable=False)
