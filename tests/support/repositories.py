"""Commits in bare git repositories, for tests."""

from __future__ import annotations

from typing import Any

from dulwich.objects import Blob, Commit, Tree


def commit(repository: Any, files: dict[str, bytes], branch: str = "main") -> None:
    """Add a commit that contains exactly `files`."""
    ref = f"refs/heads/{branch}".encode()
    new = Commit()
    new.tree = _tree(repository, files)
    new.author = new.committer = b"Ada <ada@example.org>"
    new.author_time = new.commit_time = 1_700_000_000
    new.author_timezone = new.commit_timezone = 0
    new.message = b"."
    new.parents = [repository.refs[ref]] if ref in repository.refs else []
    repository.object_store.add_object(new)
    repository.refs[ref] = new.id


def _tree(repository: Any, files: dict[str, bytes]) -> Any:
    tree, folders = Tree(), {}
    for path, data in files.items():
        first, _, rest = path.partition("/")
        if rest:
            folders.setdefault(first, {})[rest] = data
            continue
        blob = Blob.from_string(data)
        repository.object_store.add_object(blob)
        tree.add(first.encode(), 0o120000 if first.endswith(".link") else 0o100644, blob.id)
    for name, contents in folders.items():
        tree.add(name.encode(), 0o040000, _tree(repository, contents))
    repository.object_store.add_object(tree)
    return tree.id
