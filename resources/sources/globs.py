"""Globs for keys: `**/` spans folders, `*` and `?` stay in one, and a glob without "/" matches a name at any depth."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field


def compile_globs(globs: Sequence[str]) -> re.Pattern[str] | None:
    """Return one expression for all globs; None for no globs."""
    if not globs:
        return None
    alternatives = (_translate(unicodedata.normalize("NFC", glob)) for glob in globs)
    return re.compile("|".join(alternatives), re.DOTALL)


class KeyFilter:
    """A filter of keys. An empty `include` accepts all keys; `exclude` wins over `include`."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._included = compile_globs(include)
        self._excluded = compile_globs(exclude)
        whole = [glob for glob in exclude if glob.endswith(("/", "/**"))]
        folders = [glob.removesuffix("**").removesuffix("/").removeprefix("/") for glob in whole]
        # With a slash in front, a name alone does not match at any depth.
        self._excluded_folders = compile_globs(["/" + folder for folder in folders])

    def __call__(self, key: str) -> bool:
        return (self._included is None or self._included.fullmatch(key) is not None) and (
            not self.excludes(key)
        )

    def excludes(self, key: str) -> bool:
        return self._excluded is not None and self._excluded.fullmatch(key) is not None

    def excludes_folder(self, key: str) -> bool:
        """Return whether a glob such as `drafts/**` excludes everything below the folder: it need not be listed."""
        return self._excluded_folders is not None and bool(self._excluded_folders.fullmatch(key))


def exact_glob(key: str) -> str:
    """Return the glob that matches this key alone."""
    return "/" + re.sub(r"[*?\[]", r"[\g<0>]", key)


def folder_glob(key: str) -> str:
    """Return the glob that matches everything below the folder."""
    return re.sub(r"[*?\[]", r"[\g<0>]", key) + "/**"


def exact_key(glob: str) -> str | None:
    """Return the key that a glob made by `exact_glob` matches; None for any other glob."""
    key = re.sub(r"\[([*?\[])\]", r"\1", glob.removeprefix("/"))
    return key if glob.startswith("/") and exact_glob(key) == glob else None


def _check_glob(glob: str) -> str:
    try:
        compile_globs((glob,))
    except re.error as error:
        # Raised for a range such as [z-a].
        raise ValueError(f"expected a glob ({error})") from error
    return glob


Glob = Annotated[str, Field(min_length=1), AfterValidator(_check_glob)]
Include = Annotated[list[Glob], Field(description="globs of the keys to read, such as **/*.md")]
Exclude = Annotated[list[Glob], Field(description="globs of the keys to skip")]


def _translate(glob: str) -> str:
    if "/" not in glob:
        glob = "**/" + glob
    if glob.endswith("/"):
        glob += "**"
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", glob.removeprefix("/"))
    patterns = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return (
        "(?:"
        + "".join(
            patterns.get(part) or (_character_class(part) if index % 2 else re.escape(part))
            for index, part in enumerate(parts)
        )
        + ")"
    )


def _character_class(part: str) -> str:
    """Translate `[a-z]` or `[!a-z]`; "/" is never a member."""
    negated = part.startswith("[!")
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[2 if negated else 1 : -1])
    return f"(?!/)[{'^' if negated else ''}{members}]"
