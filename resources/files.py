"""Files by name below one URL: a local folder or object storage (anything pyarrow or fsspec opens).

A file appears whole or not at all: a local file is written beside its name, synced and renamed; object storage does
this automatically. The contents of the files are not known here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import fs

from resources.errors import ConfigError, StoreUnavailable
from resources.fault_injection import fault_point
from resources.storage_errors import storage_errors
from resources.urls import redact

#: Bytes of an object that are kept in memory until it is whole; a larger object is written to a local disk first.
SPOOL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class WrittenFile:
    path: str
    byte_count: int
    checksum: str  # SHA-256, 64 hexadecimal digits


@dataclass(frozen=True)
class FileStore:
    """Files below `url`: a path, file://…, or what pyarrow (s3, gs, abfs, hdfs) or an fsspec backend opens."""

    url: str

    @property
    def is_local(self) -> bool:
        return "://" not in self.url or self.url.startswith("file://")

    @cached_property
    def _root(self) -> tuple[fs.FileSystem, str]:
        if self.is_local:
            return fs.LocalFileSystem(), str(Path(self.url.removeprefix("file://")).absolute())
        try:
            return fs.FileSystem.from_uri(_with_single_put(self.url))
        except (pa.ArrowInvalid, ValueError, OSError) as error:
            try:
                from fsspec.core import url_to_fs

                filesystem, path = url_to_fs(self.url)
                return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path
            except (ImportError, ValueError, OSError) as fsspec_error:
                # `from None`: logs print the whole chain of errors, which quotes the URL.
                raise ConfigError(
                    redact(
                        f"RAG_STORAGE_URL={self.url!r} cannot be opened: {error}; by fsspec: {fsspec_error}.",
                        self.url,
                    )
                ) from None

    def _path(self, name: str) -> str:
        return f"{self._root[1]}/{name}"

    @contextmanager
    def replace(self, name: str, *, durable: bool = True) -> Iterator[BinaryIO]:
        """Yield a file to write. It takes its name only when the block ends without an error.

        `durable=False` skips the syncs, for data that can be fetched again and is verified when it is read.
        """
        path = self._path(name)
        if not self.is_local:
            # An error closes an output stream too, and closing completes it: so only a whole file is uploaded.
            with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
                yield spool  # pyright: ignore[reportReturnType]
                spool.seek(0)
                with (
                    storage_errors(self.url, f"write {name}", writes=True),
                    self._root[0].open_output_stream(path) as stream,
                ):
                    shutil.copyfileobj(spool, stream, 1 << 20)
            return
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.makedirs(folder, exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with open(temporary, "wb") as file:
                yield file
                if durable:
                    fault_point("file-written")
                    file.flush()
                    os.fsync(file.fileno())
                    fault_point("file-synced")
            os.replace(temporary, path)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            # No space, no permission, or a disk that fails.
            if isinstance(error, OSError):
                raise StoreUnavailable(f"{path} cannot be written: {error}") from error
            raise
        if durable:
            fault_point("file-renamed")
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        with self.replace(name, durable=durable) as file:
            file.write(data)

    def read(self, name: str) -> bytes:
        """Return the bytes. Raises FileNotFoundError; StoreUnavailable or ConfigError if the storage fails."""
        if not self.is_local:
            with (
                self._errors(f"read {name}"),
                self._root[0].open_input_stream(self._path(name), compression=None) as stream,
            ):
                return stream.read()
        try:
            with open(self._path(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreUnavailable(f"{self._path(name)} cannot be read: {error}") from error

    def open(self, name: str) -> pa.NativeFile:
        """Return a file for random access, memory-mapped if it is local. Raises FileNotFoundError."""
        if self.is_local:
            return pa.memory_map(self._path(name))
        with self._errors(f"open {name}"):
            return self._root[0].open_input_file(self._path(name))

    def size(self, name: str) -> int | None:
        """Return the bytes of the file, or None if it does not exist."""
        if self.is_local:
            try:
                info = os.stat(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None
            return info.st_size if stat.S_ISREG(info.st_mode) else None
        with self._errors(f"look for {name}"):
            info = self._root[0].get_file_info(self._path(name))
            if info.type == fs.FileType.NotFound:
                self._require_bucket()
        return info.size if info.type == fs.FileType.File else None

    def checksum(self, name: str) -> WrittenFile:
        digest, count = hashlib.sha256(), 0
        with (
            self._errors(f"read {name}"),
            self._root[0].open_input_stream(self._path(name), compression=None) as stream,
        ):
            while block := stream.read(1 << 20):
                digest.update(block)
                count += len(block)
        return WrittenFile(name, count, digest.hexdigest())

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError), self._errors(f"delete {name}"):
            self._root[0].delete_file(self._path(name))

    def ages(self, folder: str) -> Iterator[tuple[str, float]]:
        """Yield (name, seconds since it was written) of the files in a folder, unfinished ones included."""
        now = time.time()
        for info in self.list(folder):
            # Some file systems record no time.
            if info.mtime is not None:
                yield f"{folder}/{info.base_name}", now - info.mtime.timestamp()

    def list(self, folder: str) -> Iterator[fs.FileInfo]:
        """Return the files below a folder, at any depth; `path` is absolute. Empty if the folder does not exist."""
        selector = fs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        with self._errors(f"list {folder}"):
            listing = self._root[0].get_file_info(selector)
            if not listing and not self.is_local:
                self._require_bucket()
        return (info for info in listing if info.type == fs.FileType.File)

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Raise errors of object storage as errors of ours. A local file's errors tell of that file alone."""
        if self.is_local:
            yield
            return
        with storage_errors(self.url, action):
            try:
                yield
            except FileNotFoundError:
                self._require_bucket()
                raise

    def _require_bucket(self) -> None:
        """Raise OSError if the bucket does not exist (asked once, of S3).

        pyarrow finds no file in such a bucket, and reports nothing: every file would count as lost.
        """
        if not self._has_bucket:
            raise OSError(f"NoSuchBucket: {self._bucket}")

    @property
    def _bucket(self) -> str:
        return self._root[1].partition("/")[0]

    @cached_property
    def _has_bucket(self) -> bool:
        if not isinstance(self._root[0], fs.S3FileSystem):
            return True
        try:
            return self._root[0].get_file_info(self._bucket).type != fs.FileType.NotFound
        except OSError:
            # Keys that may use files need not be allowed to look at the bucket.
            return True


def _with_single_put(url: str) -> str:
    """Return the URL by which pyarrow writes an object below 10 MB in one request; its default are three, in parts."""
    if not url.startswith("s3://") or "allow_delayed_open=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}allow_delayed_open=true"


def raw_name(content_hash: str) -> str:
    """Return the name of the raw file with this SHA-256."""
    return f"raw/{content_hash[:2]}/{content_hash}"
