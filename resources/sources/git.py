"""Source type `git`: the files of a repository at a branch, read from its objects without a git program or checkout.

The change token is the blob's id, so a commit is compared without reading a file. A repository on this machine is read
in place. Of a remote one, the branch's newest commit (without its history) is kept in the user's cache folder.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from rag_assets.pipeline.entries import Content, Entry
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources import git_forms
from resources.sources.base import Source
from resources.sources.config import PlainUrl, SourceConfig
from resources.sources.globs import Exclude, Include, KeyFilter
from resources.urls import without_secrets

if TYPE_CHECKING:
    from dulwich.repo import Repo

#: Seconds that a server may take for a part of an answer.
TIMEOUT = 60.0
#: The same for a sensor, which tries once: a Dagster tick has 60 s for all sources.
SENSOR_TIMEOUT = 4.0
_IMPATIENT_SSH = (
    "-o BatchMode=yes -o ConnectTimeout=4 -o ServerAliveInterval=4 -o ServerAliveCountMax=1"
)
#: Each fetch adds a pack to the copy; a copy with more packs is deleted and fetched again.
MAX_PACKS = 50
_LFS = b"version https://git-lfs.github.com/spec/"


def _check_url(url: str) -> str:
    if not re.match(r"(https?|ssh|git|file)://|/|[\w.-]+@[\w.-]+:", url):
        raise ValueError("expected https://…, ssh://…, user@host:path or an absolute path")
    return url


class GitConfig(SourceConfig):
    url: Annotated[PlainUrl, AfterValidator(_check_url)] = Field(
        description="the repository: https://…, ssh://…, user@host:path or a path on this machine"
    )
    branch: str | None = Field(
        default=None, min_length=1, description="the branch; the default branch if not set"
    )
    include: Include = Field(default=[])
    exclude: Exclude = Field(default=[])
    hidden: bool = Field(default=False, description="read hidden files and folders too")


class GitSource(Source):
    def __init__(self, config: GitConfig, credentials: Mapping[str, str]) -> None:
        self.config = config
        self._credentials = credentials
        self._key_filter = KeyFilter(config.include, config.exclude)
        # One reader at a time: packs are read by seeking.
        self._lock = threading.Lock()
        self._repository: Repo | None = None

    def list(self) -> Iterator[Entry]:
        with self._translated_errors():
            yield from self._entries(*self._open_newest())

    def list_quickly(self) -> Iterator[Entry]:
        """Yield the files without fetching. A commit that the copy lacks stands for its files."""
        if self._path is not None:
            yield from self.list()
            return
        with self._translated_errors():
            _, newest = self._query_remote(for_sensor=True)
            if (repository := self._copy_containing(newest)) is not None:
                yield from self._entries(repository, newest)
            else:
                yield Entry(newest.decode(), "", newest.decode(), None)

    def _entries(self, repository: Repo, commit_id: bytes) -> Iterator[Entry]:
        from dulwich.object_store import iter_tree_contents
        from dulwich.objects import Commit

        self.close()
        self._repository = repository
        commit = repository[commit_id]
        if not isinstance(commit, Commit):
            raise SourceError(f"{self.config.url}: the branch is not at a commit")
        is_partial = git_forms.is_partial(repository)
        for item in iter_tree_contents(repository.object_store, commit.tree):
            key = _key(item.path or b"")
            # Regular files only: no links, and no submodules, whose commits are in other repositories.
            if item.sha is None or item.mode not in (0o100644, 0o100755, 0o100664):
                continue
            if not self.config.hidden and any(p.startswith(".") for p in key.split("/")):
                continue
            if self._key_filter(key):
                if is_partial and item.sha not in repository.object_store:
                    raise git_forms.missing(self.config.url, self._path, repository, key)
                blob = item.sha.decode()
                yield Entry(key, blob, blob, None)

    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content:
        with self._lock, self._translated_errors():
            if self._repository is None:
                self._repository = self._open_newest()[0]
            try:
                data = self._repository.object_store[entry.locator.encode()].as_raw_string()  # pyright: ignore[reportArgumentType]
            except KeyError:
                raise SourceError("no longer in the repository") from None
        if len(data) > self.config.max_bytes:
            raise SourceError(f"larger than {self.config.max_bytes:,} bytes: {len(data):,}")
        if data.startswith(_LFS):
            raise SourceError("stored in Git LFS: the repository contains only a pointer to it")
        return Content(data)

    def close(self) -> None:
        if self._repository is not None:
            self._repository.close()
            self._repository = None

    @property
    def _path(self) -> str | None:
        """The path of a repository on this machine; None for a remote one."""
        path = self.config.url.removeprefix("file://")
        return path if path.startswith("/") else None

    @property
    def _folder(self) -> Path:
        """The folder of the copy of a remote repository."""
        return _cache() / sha256(self.config.url.encode()).hexdigest()[:32]

    def _open_newest(self) -> tuple[Repo, bytes]:
        """Return the opened repository and the newest commit of the branch, which it contains."""
        from dulwich.repo import Repo, UnsupportedExtension

        if self._path is None:
            return self._updated_copy()
        try:
            repository = Repo(self._path)
        except UnsupportedExtension as error:
            raise git_forms.extension(self.config.url, str(error)) from None
        refs = dict(repository.get_refs())
        if not refs:
            raise git_forms.without_branches(self.config.url, self._path, repository)
        return repository, self._branch_head(refs, repository.refs.get_symrefs())

    def _query_remote(
        self, *, for_sensor: bool = False
    ) -> tuple[Callable[[Repo, bytes], Any], bytes]:
        """Return a function that fetches a commit, and the newest commit of the branch."""
        from dulwich.client import default_urllib3_manager, get_transport_and_path
        from dulwich.config import ConfigDict
        from urllib3 import Retry

        config = ConfigDict()
        pools: Any = default_urllib3_manager(
            config, timeout=SENSOR_TIMEOUT if for_sensor else TIMEOUT
        )
        ssh = None
        if for_sensor:
            pools.connection_pool_kw["retries"] = Retry(connect=0, read=0, redirect=3, other=0)
            ssh = f"{os.environ.get('GIT_SSH_COMMAND', 'ssh')} {_IMPATIENT_SSH}"
        client, path = get_transport_and_path(
            self.config.url,
            config=config,
            username=self._credentials.get("username") or None,
            password=self._credentials.get("password") or None,
            ssh_command=ssh,
            pool_manager=pools,
        )
        listing = client.get_refs(path.encode())
        refs = {name: commit for name, commit in listing.refs.items() if commit}

        def fetch(repository: Repo, commit: bytes) -> Any:
            return client.fetch(path, repository, lambda *_, **__: [commit], depth=1)  # pyright: ignore[reportArgumentType]

        return fetch, self._branch_head(refs, listing.symrefs)

    def _updated_copy(self) -> tuple[Repo, bytes]:
        from dulwich.repo import Repo

        fetch, newest = self._query_remote()
        folder = self._folder
        with _exclusive(folder):
            try:
                if len(list(folder.glob("objects/pack/*.pack"))) > MAX_PACKS:
                    shutil.rmtree(folder)
                repository = Repo(str(folder)) if folder.exists() else _bare(folder)
                if newest not in repository.object_store:  # pyright: ignore[reportOperatorIssue]
                    fetch(repository, newest)
                return repository, newest
            except Exception:
                # Any fault of the copy is deleted with it; the next run fetches the commit again.
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def _copy_containing(self, commit: bytes) -> Repo | None:
        """Return the copy if it has this commit and no other process is writing it."""
        from dulwich.errors import NotGitRepository
        from dulwich.repo import Repo

        with suppress(BlockingIOError, NotGitRepository), _exclusive(self._folder, wait=False):
            repository = Repo(str(self._folder))
            if commit in repository.object_store:  # pyright: ignore[reportOperatorIssue]
                return repository
            repository.close()
        return None

    def _branch_head(self, refs: Mapping[Any, bytes], symbolic: Mapping[Any, bytes]) -> bytes:
        branch = self.config.branch
        ref = f"refs/heads/{branch}".encode() if branch else symbolic.get(b"HEAD", b"HEAD")
        if ref in refs or (branch is None and b"HEAD" in refs):
            return refs.get(ref) or refs[b"HEAD"]
        prefix = b"refs/heads/"
        heads = [name for name in refs if name.startswith(prefix)]
        if not refs:
            raise SourceError(f"{self.config.url} has no commit yet. Nothing was changed.")
        shown = sorted(name.removeprefix(prefix).decode("utf-8", "replace") for name in heads)
        names = ", ".join(shown) or "none"
        if branch is None:
            # A repository behind a plain web server, without git, or one whose HEAD names a branch that is gone.
            if len(heads) == 1:
                return refs[heads[0]]
            raise SourceError(
                f"{self.config.url} does not tell its default branch. Name one (it has: {names}): rag sources change "
                "NAME --set branch=BRANCH"
            )
        raise SourceError(f"{self.config.url} has no branch {branch!r}; it has: {names}")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        from dulwich.client import HTTPUnauthorized
        from dulwich.errors import NotGitRepository

        try:
            yield
            return
        except (SourceError, ConfigError):
            raise
        except NotGitRepository:
            problem = git_forms.no_repository(self.config.url, self._path)
        except KeyError as error:
            name = error.args[0] if error.args else ""
            name = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
            problem = git_forms.missing(
                self.config.url, self._path, self._repository, f"the object {name!r}"
            )
        except HTTPUnauthorized:
            problem = SourceError(
                f"{self.config.url}: access denied. Set credentials: rag sources credentials NAME "
                "--credential username=@VARIABLE --credential password=@VARIABLE"
            )
        except Exception as error:
            reason = without_secrets(str(error).strip()[:300]) or type(error).__name__
            problem = SourceUnavailable(f"{self.config.url} cannot be read: {reason}")
        raise problem from None


def _cache() -> Path:
    from platformdirs import user_cache_path

    folder = user_cache_path("rag-assets") / "git"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _bare(folder: Path) -> Repo:
    from dulwich.repo import Repo

    return Repo.init_bare(str(folder), mkdir=True)


@contextmanager
def _exclusive(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock a copy against other processes. Without `wait`: raises BlockingIOError if it is locked."""
    import fcntl

    with open(f"{folder}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _key(path: bytes) -> str:
    return unicodedata.normalize("NFC", path.decode("utf-8", "backslashreplace")).replace("\0", "")
