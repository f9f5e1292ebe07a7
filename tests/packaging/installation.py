"""An installation of the wheel in an environment of its own, as a user has it: no checkout is on its path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("rag_assets", "resources")


@dataclass(frozen=True)
class Installation:
    """`python` and `rag` of an environment; `folder` is where commands run, `env` their environment."""

    programs: Path
    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.programs / "rag", *arguments],
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=400,
        )

    def ok(self, *arguments: str, **env: str) -> str:
        """Return the standard output of a command that must succeed."""
        process = self.run(*arguments, **env)
        assert process.returncode == 0, f"{arguments}\n{process.stdout}\n{process.stderr}"
        return process.stdout


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy: a build leaves folders in the tree."""
    tree = folder / "tree"
    tree.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    # As a frontend does, in one process: each start of setuptools takes a second.
    code = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def install(wheel: Path, environment: Path) -> Path:
    """Install the wheel into a new environment, which shares the packages of this one; return its programs' folder.

    A path file does not process the path files of the folder that it names, so the editable installation of the
    checkout is not visible there.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    programs = environment / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "--quiet"]
    options = ["--disable-pip-version-check", "--no-deps", "--no-index", "--no-compile"]
    command = [*pip, "install", *options, wheel]
    # With this checkout on its path, pip would regard the wheel as installed.
    subprocess.run(command, check=True, env=user_environment(Path.home()))
    _path_file(environment).write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return programs


def user_environment(home: Path) -> dict[str, str]:
    """Return the environment of a user whose home folder this is, without settings of this process."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAG_", "DAGSTER_", "PYTHON", "XDG_", "VIRTUAL_ENV"))
    }
    return inherited | {"HOME": str(home)}


def remove_extras(environment: Path, folder: Path) -> None:
    """Leave an environment only the packages that the distribution without extras requires, directly or not.

    `folder`: a new folder, which gets links to these packages.
    """
    folder.mkdir()
    for name in _required_packages():
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {".."}:
            link = folder / top
            if not link.exists():
                link.symlink_to(str(distribution.locate_file(top)))
    _path_file(environment).write_text(str(folder), encoding="utf-8")


def _path_file(environment: Path) -> Path:
    return next((environment / "lib").glob("python*/site-packages")) / "dependencies.pth"


def _required_packages() -> set[str]:
    needed: set[tuple[str, str]] = set()

    def add(requirement: Requirement) -> None:
        for extra in {"", *requirement.extras}:
            if (key := (canonicalize_name(requirement.name), extra)) in needed:
                continue
            needed.add(key)
            for line in metadata.requires(requirement.name) or []:
                other = Requirement(line)
                if other.marker is None or other.marker.evaluate({"extra": extra}):
                    add(other)

    for line in metadata.requires("rag-assets") or []:
        if "extra ==" not in line:
            add(Requirement(line))
    return {name for name, _ in needed}
