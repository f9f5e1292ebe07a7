"""`rag sources remove`: counts what goes with a source, asks, and removes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_assets.cli.confirmation import RemovalDryRunOption, YesOption, confirm
from rag_assets.cli.output import command, note, out, plural, print_json
from rag_assets.cli.sources import NameArgument
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment

if TYPE_CHECKING:
    from resources.postgres.vectors.removals import RowsOfSource


@command
def remove(
    name: NameArgument,
    yes: YesOption = False,
    dry_run: RemovalDryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a source with its documents and chunks, and its vectors from Milvus. Asks first.

    Example: rag sources remove docs --dry-run
    """
    deployment = Deployment.from_environment()
    deployment.start(dagster=not dry_run)
    counts, vectors = count_contents(deployment, name)
    report = {
        "source": name,
        "removed": False,
        **counts._asdict(),
        "vectors": vectors,
    }
    parts = contents(counts, vectors)
    rest = (
        f"{plural(counts.embeddings, 'embedding')} in Parquet that no other source uses: "
        "a later `rag compact` drops them."
    )
    if not dry_run:
        question = f"Remove source {name} for good: {parts}?"
        confirm(question, ("sources", "remove", name), yes=yes, as_json=as_json)
        remove_sources(deployment, [name])
        report["removed"] = True
    if as_json:
        print_json(report)
        return
    if dry_run:
        out.print(f"Source {name} would be removed: {parts}.", markup=False, soft_wrap=True)
    else:
        note(f"Source {name} is removed: {parts}.")
    if counts.embeddings:
        note(rest)


def count_contents(deployment: Deployment, name: str) -> tuple[RowsOfSource, dict[str, int]]:
    """Return the rows that go with a source, and its vectors by kind."""
    from resources.postgres.registry.sources import get_source
    from resources.postgres.vectors.removals import count_rows_of_source, count_vectors_of_source

    with deployment.postgres().connect(autocommit=True) as connection:
        row = get_source(connection, name)
        return count_rows_of_source(connection, row), count_vectors_of_source(connection, row)


def contents(counts: RowsOfSource, vectors: dict[str, int]) -> str:
    """Return what goes with a source, as part of a sentence."""
    parts = [
        plural(counts.documents, "document"),
        plural(counts.chunks, "chunk"),
        *(plural(number, f"{kind} vector") for kind, number in vectors.items()),
        *([plural(counts.sets, "retrieval set")] if counts.sets else []),
    ]
    return ", ".join(parts)


def remove_sources(deployment: Deployment, names: list[str]) -> None:
    from rag_assets.job_runs import failures
    from resources.errors import StoreUnavailable
    from resources.postgres.identity.audit_chain import append_operation
    from resources.postgres.registry.sources import get_source, remove_source

    for name in names:
        with deployment.postgres().writer(name) as writer, writer.transaction() as connection:
            source = get_source(connection, name)
            remove_source(connection, name)
            append_operation(connection, "source.remove", f"source:{source.id}", name=name)
    deployment.sync_partitions()
    result = deployment.execute("purge_removed_sources")
    if not result.success:
        reasons = "; ".join(message for _, message in failures(result))
        raise StoreUnavailable(
            f"{', '.join(names)}: removed, but some vectors are not deleted yet: {reasons}. "
            "Searches no longer return them; the next run of purge_removed_sources deletes them."
        )
