"""The page of asset checks: their facts from the definitions, and what follows from each outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_assets.consistency.finding import COMMANDS
from rag_assets.definitions import CHECKS
from rag_assets.pipeline.vectors import KINDS
from resources.postgres.consistency.check_results import Inconsistency, Outcome, Remedy
from tests.docs.reference.markdown import code, table
from tests.docs.reference.markdown import page as markdown_page

INTRODUCTION = """\
A check belongs to an asset and judges one source. Its outcome is `passed`, `failed` (severity ERROR in Dagster) or
`undetermined` (severity WARN): a fault is neither proved nor excluded, and nothing is repaired. A check that has
nothing to check is `not applicable`, and counts as passed. A blocking check that fails keeps its sync from publishing
anything.

The remedy `repair` is requested by a sensor, at most `RAG_REPAIR_ATTEMPTS` times for a finding; `check` means another
full check, also by the sensor; `rebuild` and `person` wait for you. `rag check` runs the checks, `rag status` and the
table [check_results](tables.md#check_results) have their last results."""


@dataclass(frozen=True)
class Case:
    """A case in which a check does not pass. `command`: for a person; other remedies have their own."""

    when: str
    outcome: Outcome
    inconsistency: Inconsistency | None
    remedy: Remedy
    command: str = ""


def _drift(undetermined: Sequence[Case]) -> tuple[Case, ...]:
    return (
        Case("rows are missing or have other contents", "failed", "missing_vectors", "repair"),
        Case("only rows without a live chunk were found", "failed", "orphaned_chunks", "repair"),
        Case("only rows with an id that another row has too were found", "failed", None, "repair"),
        Case("a row is wrong, and the collection lacks fields of this version", "failed", "missing_vectors", "rebuild"),
        *undetermined,
    )  # fmt: skip


_NO_COLLECTION = Case("the collection does not exist", "undetermined", "missing_vectors", "repair")

#: Check, with {kind} for the kind of vectors -> the cases in which it does not pass.
CASES: Mapping[str, Sequence[Case]] = {
    "files_are_as_read": (
        Case("a file has another content than was read, under equal size, times and inode", "failed", None, "person"),
    ),
    "chunks_have_documents": (
        Case("a chunk has no document", "failed", "orphaned_chunks", "repair"),
        Case(
            "a chunk has another source than its document, or a parent in another document",
            "failed", "status_mismatches", "repair",
        ),
    ),
    "chunk_positions_are_contiguous": (
        Case("chunk_count or the positions are wrong", "failed", "status_mismatches", "repair"),
    ),
    "deleted_chunks_have_left_milvus": (
        Case("a deletion waits longer than RAG_OUTBOX_SECONDS", "failed", "orphaned_chunks", "repair"),
    ),
    "statuses_agree": (
        Case("completed chunks lack their vector ids", "failed", "missing_vectors", "repair"),
        Case("statuses of documents and chunks contradict each other", "failed", "status_mismatches", "repair"),
    ),
    "chunk_embeddings_are_in_parquet": (
        Case("a file is gone or damaged, or a chunk has no embedding", "failed", "missing_vectors", "repair"),
    ),
    "embedder_returns_known_vectors": (
        Case("another model answers under the same name", "failed", None, "person"),
        Case("the embedder does not answer", "undetermined", None, "check"),
    ),
    "{kind}_vectors_match_postgres": _drift(
        [
            Case("a chunk is not written yet", "failed", "missing_vectors", "repair"),
            Case("reads of Milvus contradict each other", "undetermined", "missing_vectors", "repair"),
        ]
    ),
    "{kind}_vectors_are_sound": (
        Case(
            "a vector is not finite, of another norm, or not that of its text in Parquet",
            "failed", None, "repair",
        ),
        _NO_COLLECTION,
    ),
    "{kind}_vectors_are_found_by_search": (
        Case("a search with no limit of candidates does not find a row", "failed", "index_issues", "repair"),
        Case(
            "a graph index leaves out more rows than it usually does", "undetermined", "index_issues", "person",
            "RAG_DENSE_INDEX='{…IVF_FLAT…}' rag repair --source NAME",
        ),
        _NO_COLLECTION,
    ),
    "{kind}_index_is_as_declared": (
        Case("the index differs or is not loaded", "failed", "index_issues", "repair"),
        Case("the fields or the dimension differ", "failed", "index_issues", "rebuild"),
    ),
    "{kind}_alias_points_to_current_model": (
        Case("the alias points at another collection, or at none", "failed", "index_issues", "repair"),
        Case("a new model's collection waits to be published", "failed", "index_issues", "person", "rag ingest"),
    ),
    "{kind}_vectors_sample_matches_postgres": _drift(
        [
            Case("Milvus counts more rows than PostgreSQL expects", "undetermined", "orphaned_chunks", "check"),
            Case("Milvus counts fewer rows than PostgreSQL expects", "undetermined", "missing_vectors", "check"),
            Case("reads of Milvus contradict each other", "undetermined", "missing_vectors", "check"),
        ]
    ),
    "retrieval_quality_is_kept": (
        Case(
            "a measure fell by more than RAG_EVAL_MARGIN", "failed", None, "person",
            "rag check --source NAME; if the change is intended: rag eval accept SET",
        ),
    ),
    "indexes_find_nearest_neighbours": (
        Case(
            "an index finds too few of them", "failed", "index_issues", "person",
            "rag check --source NAME; if that passes, rag index tune --write",
        ),
    ),
    "known_items_are_found": (
        Case(
            "more than 1 % of them are lost", "failed", None, "person",
            "rag check --source NAME; if the change is intended: rag eval accept SET",
        ),
    ),
    "synced_on_schedule": (
        Case("a sync failed, and the source is late", "failed", None, "person", "rag ingest NAME"),
        Case("the source is late", "undetermined", None, "person", "rag ingest NAME"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    name: str
    asset: str
    fact: str
    blocking: bool


def checks() -> list[Check]:
    """Return every check of the definitions, in their order."""
    return [
        Check(spec.name, spec.asset_key.to_user_string(), spec.description or "", spec.blocking)
        for definition in CHECKS
        for spec in definition.check_specs
    ]


def family(name: str) -> str:
    """Return the name with {kind} in place of the kind of vectors."""
    for kind in KINDS:
        if name.startswith(f"{kind}_"):
            return "{kind}" + name.removeprefix(kind)
    return name


def page() -> str:
    families: dict[str, list[Check]] = {}
    for check in checks():
        families.setdefault(family(check.name), []).append(check)
    return markdown_page(
        "Asset checks", INTRODUCTION, *(_section(*item) for item in families.items())
    )


def _section(name: str, members: Sequence[Check]) -> str:
    names = ", ".join(code(check.name) for check in members)
    assets = ", ".join(dict.fromkeys(code(check.asset) for check in members))
    first = members[0]
    on = f"On {assets}. " + ("Blocking. " if first.blocking else "")
    title = f"## {name.replace('{kind}', 'KIND')}"
    parts = [title, names if len(members) > 1 else "", on + first.fact]
    columns = ("it does not pass if", "outcome", "inconsistency", "remedy", "command")
    rows = [
        (
            case.when,
            case.outcome,
            code(case.inconsistency or ""),
            code(case.remedy),
            code(case.command or COMMANDS.get(case.remedy, "").format(source="NAME")),
        )
        for case in CASES[name]
    ]
    return "\n\n".join(part for part in [*parts, table(columns, rows)] if part)
