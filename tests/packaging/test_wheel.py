"""The wheel holds the four packages, all of their files and nothing else."""

from __future__ import annotations

import re
import tomllib
import zipfile
from pathlib import Path

import importlib_metadata
import pytest

pytestmark = pytest.mark.slow

PACKAGES = (
    "core/mergecore",
    "plugins/mergecore_plugins",
    "architectures/mergecore_architectures",
    "contrib/mergecore_contrib",
)
TEMPLATE = "mergecore_plugins/commands/new_plugin/template"
"""Where the wheel has the folder `cookiecutter-plugin`."""
DATA = {
    ".css",
    ".html",
    ".jinja",
    ".js",
    ".json",
    ".jsonl",
    ".md",
    ".npz",
    ".safetensors",
    ".svg",
    ".txt",
    ".yaml",
    ".yml",
}


@pytest.fixture(scope="module")
def files(wheel: Path) -> set[str]:
    """The names in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_file_of_the_packages_is_in_the_wheel(files: set[str], project: Path) -> None:
    expected = {
        path.relative_to((project / package).parent).as_posix()
        for package in PACKAGES
        for path in (project / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {
        f"{TEMPLATE}/{path.relative_to(project / 'cookiecutter-plugin').as_posix()}"
        for path in (project / "cookiecutter-plugin").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in files if ".dist-info/" not in name} == expected


def test_the_wheel_holds_code_type_markers_and_data(files: set[str]) -> None:
    own = {name for name in files if ".dist-info/" not in name and not name.startswith(TEMPLATE)}
    others = {name for name in own if not name.endswith((".py", ".pyi"))}
    assert {name for name in others if Path(name).suffix not in DATA} == {
        "mergecore/py.typed",
        "mergecore_plugins/py.typed",
        "mergecore_architectures/py.typed",
        "mergecore_contrib/py.typed",
    }
    assert not [name for name in own if "/test_" in name or "conftest" in name]


def version_in(project: Path) -> str:
    """The version, as the text of the module says that is the only place of it."""
    text = (project / "core" / "mergecore" / "version.py").read_text(encoding="utf8")
    found = re.search(r'^__version__ = "([\d.]+)"$', text, re.MULTILINE)
    assert found
    return found[1]


def test_the_metadata_names_license_version_and_entry_points(wheel: Path, project: Path) -> None:
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf8"))["project"]
    facts = f"mergecore-{version_in(project)}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{facts}/METADATA").decode()
        entries = archive.read(f"{facts}/entry_points.txt").decode()
        assert archive.read(f"{facts}/licenses/LICENSE") == (project / "LICENSE").read_bytes()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "[console_scripts]\nmergecore = mergecore.cli.app:main\n" in entries
    for name, module in document["entry-points"]["mergecore"].items():
        assert f"\n{name} = {module}\n" in entries


def test_the_version_of_the_code_is_that_of_the_metadata(project: Path) -> None:
    import mergecore

    assert mergecore.__version__ == version_in(project) == importlib_metadata.version("mergecore")
