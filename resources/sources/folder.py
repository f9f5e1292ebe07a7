"""Source type `folder`: the files below a directory of this machine.

Hidden files and folders are left out unless asked for; symbolic links are followed only to files that stay inside.
Keys are paths relative to the folder with "/" between the parts, in NFC, so that the same tree gives the same keys on
every machine.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from resources.errors import ConfigError, SourceError
from resources.sources.base import Entry

#: A larger file is not read: it would not fit beside the other files of its batch.
MAX_FILE_BYTES = 512 * 1024 * 1024

_FIELDS = {"path": str, "include": list, "exclude": list, "hidden": bool, "language": str}


@dataclass(frozen=True)
class FolderSource:
    """`include` and `exclude` are globs over keys (`**` spans folders); an empty `include` takes everything."""

    path: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FolderSource:
        """Raises ConfigError that lists every problem of a `connection_config`."""
        problems = [
            f"{name}: not a setting of a folder; expected one of {', '.join(_FIELDS)}"
            for name in config
            if name not in _FIELDS
        ]
        for name, kind in _FIELDS.items():
            if name in config and not isinstance(config[name], kind):
                problems.append(f"{name}: expected {kind.__name__}, found {config[name]!r}")
        path = config.get("path")
        if not path:
            problems.append("path: missing; expected the folder to read")
        elif isinstance(path, str) and not os.path.isabs(path):
            problems.append(f"path: expected an absolute path, found {path!r}")
        if isinstance(config.get("language"), str) and not re.fullmatch(
            "[a-z]{2}", config["language"]
        ):
            problems.append(
                f"language: expected an ISO 639-1 code such as ja, found {config['language']!r}"
            )
        for name in ("include", "exclude"):
            globs = config.get(name)
            for glob in globs if isinstance(globs, list) else ():
                if not isinstance(glob, str) or not glob or not _compiles(glob):
                    problems.append(f"{name}: expected globs, found {glob!r}")
        if problems:
            raise ConfigError("This folder cannot be a source:\n  " + "\n  ".join(problems))
        return cls(
            Path(config["path"]),
            tuple(config.get("include") or ()),
            tuple(config.get("exclude") or ()),
            bool(config.get("hidden", False)),
        )

    def list(self) -> Iterator[Entry]:
        """Raises SourceError when the folder, or one below it, cannot be read: half a listing would delete."""
        root = os.path.realpath(self.path)
        if not os.path.isdir(root):
            raise SourceError(f"{self.path} is not a folder that can be read; is it mounted?")
        seen: dict[str, str] = {}
        for path, info in self._walk(root, root):
            key = _key(os.path.relpath(path, root))
            if not self._wanted(key):
                continue
            if key in seen:
                raise SourceError(
                    f"Two files have one key, {key!r}: {seen[key]!r} and {path!r}. Rename one."
                )
            seen[key] = path
            yield Entry(
                key,
                quote_from_bytes(os.fsencode(os.path.relpath(path, root))),
                f"{info.st_size}:{info.st_mtime_ns}",
                info.st_size,
            )

    def fetch(self, entry: Entry) -> bytes:
        if (entry.size or 0) > MAX_FILE_BYTES:
            raise SourceError(f"larger than {MAX_FILE_BYTES >> 20} MiB: {entry.size} bytes")
        root = os.path.realpath(self.path)
        path = os.path.join(os.fsencode(root), unquote_to_bytes(entry.locator))
        # Asked again here: since it was listed, a link may have come to point out of the folder.
        if not _inside(os.path.realpath(path), os.fsencode(root)):
            raise SourceError("a symbolic link out of the folder")
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}") from error

    def _walk(self, folder: str, root: str) -> Iterator[tuple[str, os.stat_result]]:
        stack = [folder]
        while stack:
            current = stack.pop()
            try:
                entries = sorted(os.scandir(current), key=lambda entry: entry.name)
            except OSError as error:
                raise SourceError(f"{current} cannot be listed: {error.strerror}") from error
            for entry in entries:
                if entry.name.startswith(".") and not self.hidden:
                    continue
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    if not _inside(target, root) or not os.path.isfile(target):
                        continue  # out of the folder, broken, or a folder (which is listed where it is)
                try:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    elif entry.is_file():
                        yield entry.path, entry.stat()
                except FileNotFoundError:
                    continue  # gone since the folder was read
                except OSError as error:
                    raise SourceError(f"{entry.path} cannot be read: {error.strerror}") from error

    def _wanted(self, key: str) -> bool:
        included, excluded = self._patterns
        return (included is None or included.fullmatch(key) is not None) and (
            excluded is None or excluded.fullmatch(key) is None
        )

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        return _compile(self.include), _compile(self.exclude)


def _compile(globs: tuple[str, ...]) -> re.Pattern[str] | None:
    """One expression for several globs: `**/` spans folders, `*` and `?` stay in one; no "/" matches any name."""
    if not globs:
        return None
    alternatives = (_translate(unicodedata.normalize("NFC", glob)) for glob in globs)
    return re.compile("|".join(alternatives), re.DOTALL)


def _compiles(glob: str) -> bool:
    try:
        return _compile((glob,)) is not None
    except re.error:  # a range such as [z-a]
        return False


def _translate(glob: str) -> str:
    if "/" not in glob:
        glob = "**/" + glob
    if glob.endswith("/"):
        glob += "**"
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", glob.removeprefix("/"))
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return (
        "(?:"
        + "".join(
            meaning.get(part) or (_character_class(part) if index % 2 else re.escape(part))
            for index, part in enumerate(parts)
        )
        + ")"
    )


def _character_class(part: str) -> str:
    """`[a-z]` or `[!a-z]`, of which "/" is never a member."""
    negated = part.startswith("[!")
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[2 if negated else 1 : -1])
    return f"(?!/)[{'^' if negated else ''}{members}]"


def _inside(path: str | bytes, root: str | bytes) -> bool:
    separator = b"/" if isinstance(root, bytes) else "/"
    return path == root or path.startswith(root + separator)  # pyright: ignore[reportOperatorIssue, reportArgumentType]


def _key(relative: str) -> str:
    """A file name need not be UTF-8: other bytes are written as \\xNN."""
    text = os.fsencode(relative).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text.replace(os.sep, "/"))
