"""What lies in `contrib` as a distribution of its own: a stranger's plugin, from its metadata to its removal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import house
import importlib_metadata
import pytest
from fixture_types import WriteModel

from mergecore.plugins.registry import Registry

DISTRIBUTIONS = house.distributions(Path(__file__).resolve().parents[2])
every_distribution = pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)


def metadata(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf8"))["project"]
    return found


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)


@every_distribution
def test_a_distribution_says_what_mergecore_says(folder: Path, project: Path) -> None:
    own, ours = metadata(folder), metadata(project)
    assert own["name"] == folder.name
    assert own["dependencies"] == ["mergecore"]
    assert own["requires-python"] == ours["requires-python"]
    assert own["license"] == ours["license"]
    assert (folder / "LICENSE").read_bytes() == (project / "LICENSE").read_bytes()


@every_distribution
def test_its_entry_points_are_installed_and_work(folder: Path) -> None:
    declared = metadata(folder)["entry-points"]["mergecore"]
    assert list(declared) == sorted(declared) == [value.rpartition(".")[2] for value in declared.values()]
    points = importlib_metadata.distribution(folder.name).entry_points.select(group="mergecore")
    assert {one.name: one.value for one in points} == declared, f"run `pip install --no-deps -e {folder}`"
    plugins = {
        one.name: one for one in Registry.discover((), {}).plugins() if one.distribution == folder.name
    }
    assert {name: one.status for name, one in plugins.items()} == dict.fromkeys(declared, "active")


@every_distribution
def test_make_installs_it_and_the_tests_run(folder: Path, project: Path) -> None:
    assert f"--editable ./contrib/{folder.name}\n" in (project / "Makefile").read_text(encoding="utf8")
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf8"))["tool"]
    tests = f"contrib/{folder.name}/tests"
    assert tests in document["pytest"]["ini_options"]["testpaths"]
    assert {f"contrib/{folder.name}", tests} <= set(document["mypy"]["mypy_path"].split(":"))


# ---- the built wheel ---------------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A new virtual environment that sees the packages of this one, but nothing that has to do with mergecore."""
    others = tmp_path / "others"
    others.mkdir()
    for site in [Path(one) for one in sys.path if one.endswith("site-packages")]:
        for entry in site.iterdir():
            if "mergecore" not in entry.name and not (others / entry.name).exists():
                (others / entry.name).symlink_to(entry)
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    target = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    (Path(target) / "others.pth").write_text(f"{others}\n")  # .pth files in there have no effect
    return folder


@pytest.mark.slow
@every_distribution
def test_its_wheel_is_installed_tested_used_and_removed(
    folder: Path,
    build: Callable[[Path, Path], Path],
    wheel: Path,
    environment: Path,
    tmp_path: Path,
    write_model: WriteModel,
) -> None:
    built = build(folder, tmp_path / "dist")
    package = folder.name.replace("-", "_")
    with zipfile.ZipFile(built) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in (folder / package).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert held == {path.relative_to(folder).as_posix() for path in files}

    python, mergecore = environment / "bin" / "python", environment / "bin" / "mergecore"
    pip = (sys.executable, "-m", "pip", "--python", str(python))
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--ignore-installed"]
    installed = run(*pip, "install", *options, wheel, built)
    assert installed.returncode == 0, installed.stderr
    light = run(
        python, "-c", "import sys, mergecore; mergecore.Registry.discover(); sys.exit('torch' in sys.modules)"
    )
    assert light.returncode == 0, "listing the plugins would load torch"

    names = metadata(folder)["entry-points"]["mergecore"]
    listed = run(mergecore, "plugins", "list").stdout
    assert [name for name in names if not re.search(rf"^ *{name} ", listed, re.MULTILINE)] == []
    assert folder.name in listed
    models = [write_model(tmp_path / name, value) for name, value in (("base", 0.0), ("a", 1.0), ("b", 2.0))]
    entries = "".join(f"  - model: {model}\n" for model in models[1:])
    for name in names:
        config = tmp_path / f"{name}.yml"
        config.write_text(f"merge_method: {name}\nbase_model: {models[0]}\nmodels:\n{entries}")
        merged = run(mergecore, "merge", config, tmp_path / name)
        assert merged.returncode == 0, merged.stderr

    tested = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=folder)
    assert tested.returncode == 0, tested.stdout

    assert run(*pip, "uninstall", "--yes", folder.name).returncode == 0
    refused = run(mergecore, "merge", config, tmp_path / "again")
    assert refused.returncode
    assert f"merge method '{name}': no installed plugin provides it" in refused.stderr
