"""A record of the audit: who did what, when, and with which outcome. Without texts, keys or tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, get_args

Outcome = Literal["allowed", "denied", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """`action`: SUBJECT.VERB, such as `user.create`, `key.revoke`, `auth.login` or `search`. `principal`: the identity
    of a `Principal`, or `anonymous`. `target`: KIND:ID, such as `user:UUID`. `details`: JSON values.
    """

    action: str
    outcome: Outcome
    principal: str
    target: str = ""
    request_id: str = ""
    address: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    occurred_at: datetime = field(default_factory=lambda: datetime.now(UTC))
