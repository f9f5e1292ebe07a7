"""Extras, the home folder, and a stranger's package `resources`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from rag_assets.settings import stores
from resources import extras
from resources.errors import ConfigError

ROOT = Path(__file__).parents[2]

DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_extra_for_users_names_its_modules() -> None:
    assert extras.MODULES.keys() == DECLARED["optional-dependencies"].keys() - {"all", "dev"}


def test_the_command_names_the_missing_packages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = [
        'psycopg; extra == "first"',
        'no-such-package<3,>=2; extra == "first"',
        'rag-assets[first]; extra == "second"',
        'no-such-plugin; (python_version < "4") and extra == "second"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: requires)
    python = f"{sys.executable} -m pip install"
    assert extras.install_command("first") == f"{python} 'no-such-package<3,>=2'"
    assert extras.install_command("second") == f"{python} 'no-such-package<3,>=2' no-such-plugin"
    assert "rag-assets[" not in extras.install_command("second")


def test_a_missing_module_is_traced_to_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = ['lingua-language-detector>=2; extra == "ingest"', 's3fs; extra == "s3"']
    monkeypatch.setattr(metadata, "requires", lambda _: requires)
    error = extras.missing_extra(ModuleNotFoundError(name="lingua.detector"), "This command")
    assert isinstance(error, ConfigError)
    assert "'ingest'" in str(error)
    assert "lingua-language-detector" in str(error)
    assert extras.missing_extra(ModuleNotFoundError(name="a_module_of_the_user"), "x") is None


def test_a_package_named_resources_of_another_project_is_named(tmp_path: Path) -> None:
    stranger = tmp_path / "resources"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("")

    def rag(program: str) -> subprocess.CompletedProcess[str]:
        code = f"import sys; sys.argv[0] = {program!r}; import rag_assets.settings.load"
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )

    command = rag("/usr/bin/rag")
    assert command.returncode == 2
    assert command.stderr.startswith("error: rag-assets needs its own package `resources`")
    assert str(stranger) in command.stderr
    assert "Traceback" not in command.stderr
    assert "ImportError: rag-assets needs its own package" in rag("program.py").stderr


def test_the_home_folder_is_in_a_checkout_or_in_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stores.default_home() == ROOT / ".rag"
    monkeypatch.setattr(stores, "_PACKAGE", tmp_path / "site-packages" / "rag_assets")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    home = stores.default_home()
    assert home.name == "rag-assets"
    assert home.is_relative_to(tmp_path)
    # A project of the user's that has the package in its folder is no checkout.
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    assert stores.default_home() == home
