"""Forms of git repositories that are not read, or not by this address: what they are, and what to do instead."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from resources.errors import SourceError, SourceUnavailable
from resources.sources.globs import folder_glob
from resources.urls import without_secrets

if TYPE_CHECKING:
    from dulwich.repo import Repo

_ELSEWHERE = "name the address of a server that has the repository, such as ssh://… or https://…"


def extension(url: str, name: str) -> SourceError:
    return SourceError(
        f"{url} uses {name}, an extension of git that cannot be read from its files. Instead, {_ELSEWHERE}"
    )


def without_branches(url: str, path: str, repository: Repo) -> SourceError:
    form = _value(repository, (b"extensions",), b"refstorage")
    if not form:
        return SourceError(f"{url} has no commit yet. Nothing was changed.")
    return SourceError(
        f"{url} stores its branches in the form {form!r}, in which none could be read. Convert them: git -C "
        f"{shlex.quote(path)} refs migrate --ref-format=files; or {_ELSEWHERE}"
    )


def missing(url: str, path: str | None, repository: Repo | None, name: str) -> SourceError:
    """Return the error about an object that the newest commit needs."""
    if path is None or repository is None or not is_partial(repository):
        return SourceUnavailable(f"{url} lacks {name}, which its newest commit needs")
    origin = _value(repository, (b"remote", b"origin"), b"url") or "another repository"
    return SourceError(
        f"{url} is a partial clone: it lacks {name}, which git would fetch from {without_secrets(origin)}. Name that "
        f"address as the source, or complete the clone: git -C {shlex.quote(path)} fetch --refetch --no-filter"
    )


def is_partial(repository: Repo) -> bool:
    """Return whether objects may be missing, which git would fetch when it needs them."""
    packs = Path(os.fsdecode(repository.commondir()), "objects", "pack")
    return next(packs.glob("*.promisor"), None) is not None


def no_repository(url: str, path: str | None) -> SourceError:
    """Return the error about an address without a repository. Perhaps it is a folder within one."""
    folder = Path(path) if path else None
    if folder is not None and not folder.exists():
        return SourceError(f"{url} does not exist")
    for parent in folder.parents if folder else ():
        if (parent / ".git").exists() and folder is not None:
            part = folder_glob(folder.relative_to(parent).as_posix())
            return SourceError(
                f"{url} is a folder of the repository {parent}. Name that as the source, and the folder as the part to "
                f"read: --include {shlex.quote(part)}"
            )
    return SourceError(f"{url} is not a git repository")


def _value(repository: Repo, section: tuple[bytes, ...], name: bytes) -> str:
    """Return a setting of a repository; empty if it has none."""
    try:
        return repository.get_config().get(section, name).decode("utf-8", "replace")
    except KeyError:
        return ""
