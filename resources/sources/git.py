"""Source type `git`: the files of a repository at a branch, read from its objects; no git program and no checkout.

The change sign is the blob's id, so a commit is compared without reading a file. A repository on this machine is read
where it lies; of another one the branch's newest commit (without its history) is kept in the user's cache folder.
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

from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources.base import Content, Entry, Source
from resources.sources.config import PlainUrl, SourceConfig
from resources.sources.globs import Exclude, Include, KeyFilter
from resources.urls import without_secrets

if TYPE_CHECKING:
    from dulwich.repo import Repo

#: Seconds that a server may take for a part of an answer.
TIMEOUT = 60.0
#: ... when a sensor looks, which asks once: a tick of Dagster's has 60 s for all sources.
LOOK_TIMEOUT = 4.0
_IMPATIENT_SSH = (
    "-o BatchMode=yes -o ConnectTimeout=4 -o ServerAliveInterval=4 -o ServerAliveCountMax=1"
)
#: Each fetch adds a pack to the copy; with so many it is made anew.
MAX_PACKS = 50
_LFS = b"version https://git-lfs.github.com/spec/"


def _repository(url: str) -> str:
    if not re.match(r"(https?|ssh|git|file)://|/|[\w.-]+@[\w.-]+:", url):
        raise ValueError("expected https://…, ssh://…, user@host:path or an absolute path")
    return url


class GitConfig(SourceConfig):
    url: Annotated[PlainUrl, AfterValidator(_repository)] = Field(
        description="the repository: https://…, ssh://…, user@host:path or a path of this machine"
    )
    branch: str | None = Field(default=None, min_length=1, description="else the default branch")
    include: Include = Field(default=[])
    exclude: Exclude = Field(default=[])
    hidden: bool = Field(default=False, description="hidden files and folders too")


class GitSource(Source):
    def __init__(self, config: GitConfig, credentials: Mapping[str, str]) -> None:
        self.config = config
        self._credentials = credentials
        self._wanted = KeyFilter(config.include, config.exclude)
        self._lock = threading.Lock()  # one reader: packs are read by seeking
        self._opened: Repo | None = None

    def list(self) -> Iterator[Entry]:
        with self._reading():
            yield from self._entries(*self._newest())

    def look(self) -> Iterator[Entry]:
        """Fetches nothing: a commit that the copy lacks stands for its files."""
        if self._path is not None:
            yield from self.list()
            return
        with self._reading():
            _, newest = self._remote(looking=True)
            if (repository := self._copy_with(newest)) is not None:
                yield from self._entries(repository, newest)
            else:
                yield Entry(newest.decode(), "", newest.decode(), None)

    def _entries(self, repository: Repo, commit_id: bytes) -> Iterator[Entry]:
        from dulwich.object_store import iter_tree_contents
        from dulwich.objects import Commit

        self.close()
        self._opened = repository
        commit = repository[commit_id]
        if not isinstance(commit, Commit):
            raise SourceError(f"{self.config.url}: the branch is not at a commit")
        for item in iter_tree_contents(repository.object_store, commit.tree):
            key = _key(item.path or b"")
            # Regular files; no links, and no submodules, whose commits are elsewhere.
            if item.sha is None or item.mode not in (0o100644, 0o100755, 0o100664):
                continue
            if not self.config.hidden and any(p.startswith(".") for p in key.split("/")):
                continue
            if self._wanted(key):
                blob = item.sha.decode()
                yield Entry(key, blob, blob, None)

    def fetch(self, entry: Entry, known: str | None = None) -> Content:
        with self._lock, self._reading():
            if self._opened is None:
                self._opened = self._newest()[0]
            try:
                data = self._opened.object_store[entry.locator.encode()].as_raw_string()  # pyright: ignore[reportArgumentType]
            except KeyError:
                raise SourceError("not in the repository any more") from None
        if len(data) > self.config.max_bytes:
            raise SourceError(f"larger than {self.config.max_bytes:,} bytes: {len(data):,}")
        if data.startswith(_LFS):
            raise SourceError("kept in Git LFS: the repository holds only a pointer to it")
        return Content(data)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _path(self) -> str | None:
        """Where the repository is on this machine."""
        path = self.config.url.removeprefix("file://")
        return path if path.startswith("/") else None

    @property
    def _folder(self) -> Path:
        """Where the copy of one elsewhere is."""
        return _cache() / sha256(self.config.url.encode()).hexdigest()[:32]

    def _newest(self) -> tuple[Repo, bytes]:
        """The repository, and the newest commit of the branch, which is in it."""
        from dulwich.repo import Repo

        if self._path is None:
            return self._copied()
        repository = Repo(self._path)
        return repository, self._branch(dict(repository.get_refs()), repository.refs.get_symrefs())

    def _remote(self, *, looking: bool = False) -> tuple[Callable[[Repo, bytes], Any], bytes]:
        """How a commit is fetched, and the newest one of the branch."""
        from dulwich.client import default_urllib3_manager, get_transport_and_path
        from dulwich.config import ConfigDict
        from urllib3 import Retry

        config = ConfigDict()
        pools: Any = default_urllib3_manager(config, timeout=LOOK_TIMEOUT if looking else TIMEOUT)
        ssh = None
        if looking:
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
        listed = client.get_refs(path.encode())
        found = {name: commit for name, commit in listed.refs.items() if commit}

        def fetch(repository: Repo, commit: bytes) -> Any:
            return client.fetch(path, repository, lambda *_, **__: [commit], depth=1)  # pyright: ignore[reportArgumentType]

        return fetch, self._branch(found, listed.symrefs)

    def _copied(self) -> tuple[Repo, bytes]:
        from dulwich.repo import Repo

        fetch, newest = self._remote()
        folder = self._folder
        with _alone(folder):
            try:
                if len(list(folder.glob("objects/pack/*.pack"))) > MAX_PACKS:
                    shutil.rmtree(folder)
                repository = Repo(str(folder)) if folder.exists() else _bare(folder)
                if newest not in repository.object_store:  # pyright: ignore[reportOperatorIssue]
                    fetch(repository, newest)
                return repository, newest
            except Exception:
                # Whatever is wrong with the copy goes with it; the next run fetches it whole.
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def _copy_with(self, commit: bytes) -> Repo | None:
        """The copy, if it has this commit and nobody is writing it."""
        from dulwich.errors import NotGitRepository
        from dulwich.repo import Repo

        with suppress(BlockingIOError, NotGitRepository), _alone(self._folder, wait=False):
            repository = Repo(str(self._folder))
            if commit in repository.object_store:  # pyright: ignore[reportOperatorIssue]
                return repository
            repository.close()
        return None

    def _branch(self, refs: Mapping[Any, bytes], symbolic: Mapping[Any, bytes]) -> bytes:
        name = self.config.branch
        wanted = f"refs/heads/{name}".encode() if name else symbolic.get(b"HEAD", b"HEAD")
        if wanted in refs or (name is None and b"HEAD" in refs):
            return refs.get(wanted) or refs[b"HEAD"]
        heads = [
            ref[11:].decode("utf-8", "replace") for ref in refs if ref.startswith(b"refs/heads/")
        ]
        raise SourceError(
            f"{self.config.url} has no branch {name or 'HEAD'!r}; it has: {', '.join(sorted(heads)) or 'none'}"
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        from dulwich.client import HTTPUnauthorized
        from dulwich.errors import NotGitRepository

        try:
            yield
            return
        except (SourceError, ConfigError):
            raise
        except NotGitRepository:
            problem = SourceError(f"{self.config.url} is not a git repository")
        except HTTPUnauthorized:
            problem = SourceError(
                f"{self.config.url}: access denied. Give credentials: rag sources credentials NAME "
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
def _alone(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """A sensor and a sync may want the same copy. Without `wait`: raises BlockingIOError while another one has it."""
    import fcntl

    with open(f"{folder}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _key(path: bytes) -> str:
    return unicodedata.normalize("NFC", path.decode("utf-8", "backslashreplace")).replace("\0", "")
