"""Source type `folder`: the files below a directory of this machine.

A file is read again if its size, the time of its last change or its inode changed. One that is being written is left
for the next sync (`writers`, `endings`).

Hidden files and folders are skipped unless configured; symbolic links are followed only to files inside the folder.
Keys are paths relative to the folder with "/" between the parts, in NFC, so that the same tree gives the same keys on
every machine.
"""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import AfterValidator, Field

from rag_assets.pipeline.entries import Content, Entry
from resources.errors import SourceError, UnreadablePart
from resources.sources.base import Source
from resources.sources.config import MIB, SourceConfig
from resources.sources.endings import missing_end
from resources.sources.globs import Exclude, Include, KeyFilter, folder_glob
from resources.sources.signs import file_token
from resources.sources.writers import PATIENCE, why_unfinished


def _check_path(path: str) -> str:
    if not os.path.isabs(path):
        raise ValueError("expected an absolute path")
    return path


class FolderConfig(SourceConfig):
    path: Annotated[str, AfterValidator(_check_path)] = Field(description="the folder to read")
    include: Include = Field(default=[])
    exclude: Exclude = Field(default=[])
    hidden: bool = Field(default=False, description="read hidden files and folders too")
    max_bytes: int = Field(
        default=512 * MIB, gt=0, description="maximum bytes of a document; a larger one fails"
    )


class FolderSource(Source):
    def __init__(self, config: FolderConfig) -> None:
        self.config = config
        self.path = Path(config.path)
        self._key_filter = KeyFilter(config.include, config.exclude)

    @cached_property
    def _root(self) -> str:
        return os.path.realpath(self.path)

    def list(self) -> Iterator[Entry]:
        """Raises SourceError if a folder cannot be read: the entries missing from the listing would be deleted."""
        root = self._root
        if not os.path.isdir(root):
            raise SourceError(f"{self.path} is not a readable folder; is it mounted?")
        seen: dict[str, str] = {}
        for path, info, now_ns in self._walk(root, root):
            key = entry_key(os.path.relpath(path, root))
            if not self._key_filter(key):
                continue
            if key in seen:
                raise SourceError(
                    f"Two files have one key, {key!r}: {seen[key]!r} and {path!r}. Rename one."
                )
            seen[key] = path
            yield Entry(
                key,
                quote_from_bytes(os.fsencode(os.path.relpath(path, root))),
                _token(info, now_ns),
                info.st_size,
            )

    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content:
        if (entry.size or 0) > self.config.max_bytes:
            raise SourceError(f"larger than {self.config.max_bytes:,} bytes: {entry.size:,}")
        path = os.path.join(os.fsencode(self._root), unquote_to_bytes(entry.locator))
        try:
            with open(path, "rb", opener=_open_without_waiting) as file:
                # Checked again: since the listing, a link may have changed to point out of the folder.
                if not _is_inside(_real_path(file.fileno(), path), os.fsencode(self._root)):
                    raise SourceError("a symbolic link out of the folder")
                before = os.fstat(file.fileno())
                data = file.read(self.config.max_bytes + 1)
                now = time.time()
                unfinished = why_unfinished(file.fileno(), before, now=now)
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}") from error
        if len(data) > self.config.max_bytes:
            raise SourceError(f"larger than {self.config.max_bytes:,} bytes")
        if not unfinished and previous_token is not None and now - before.st_ctime < PATIENCE:
            # Its writer may be on another machine, or open it anew for each part. A file that was never read has no
            # text to lose: the parser reports it.
            unfinished = missing_end(entry.key, data)
        return Content(data, unfinished=unfinished)

    def _walk(self, folder: str, root: str) -> Iterator[tuple[str, os.stat_result, int]]:
        """Yield (path, its state, a time before it)."""
        stack = [folder]
        while stack:
            current, now_ns = stack.pop(), time.time_ns()
            try:
                entries = sorted(os.scandir(current), key=lambda entry: entry.name)
            except OSError as error:
                message = f"{current} cannot be listed: {error.strerror}"
                if current == root:
                    raise SourceError(message) from error
                glob = folder_glob(entry_key(os.path.relpath(current, root)))
                raise UnreadablePart(message, glob) from error
            for entry in entries:
                if entry.name.startswith(".") and not self.config.hidden:
                    continue
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    # Outside, broken, or a folder, which is listed at its own place.
                    if not _is_inside(target, root) or not os.path.isfile(target):
                        continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if not self._key_filter.excludes_folder(
                            entry_key(os.path.relpath(entry.path, root))
                        ):
                            stack.append(entry.path)
                    elif entry.is_file():
                        yield entry.path, entry.stat(), now_ns
                except FileNotFoundError:
                    # Deleted since the folder was read.
                    continue
                except OSError as error:
                    raise SourceError(f"{entry.path} cannot be read: {error.strerror}") from error


def _token(info: os.stat_result, now_ns: int) -> str:
    # `cp -p` and `touch -r` set the time of modification, but not that of the last change; `mv` changes the inode.
    signs = f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}:{info.st_ino}"
    return file_token(signs, info.st_ctime_ns, now_ns)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a path that may have become a pipe or a terminal."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _real_path(descriptor: int, path: bytes) -> bytes:
    """Return the path of an open file without links. Only Linux records it; elsewhere the links are resolved now."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    except OSError:
        return os.path.realpath(path)


def _is_inside(path: str | bytes, root: str | bytes) -> bool:
    separator = b"/" if isinstance(root, bytes) else "/"
    return path == root or path.startswith(root + separator)  # pyright: ignore[reportOperatorIssue, reportArgumentType]


def entry_key(relative: str) -> str:
    """Return the key of a path. Bytes of the name that are not UTF-8 are written as \\xNN."""
    text = os.fsencode(relative).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text.replace(os.sep, "/"))
