"""The template of a plugin: what it writes, and that a stranger's plugin works from the first minute."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from fixture_types import WriteModel
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

Bake = Callable[..., Path]


@pytest.fixture
def bake(project: Path, tmp_path: Path) -> Bake:
    """A function that makes a project of the template with some answers, the others as proposed."""
    settings = tmp_path / "cookiecutter.yml"
    settings.write_text(f"cookiecutters_dir: {tmp_path}/cookiecutters\nreplay_dir: {tmp_path}/replay\n")

    def make(**answers: str) -> Path:
        out = tmp_path / "baked" / "-".join(answers.values() or ["proposed"])
        options = ["--no-input", "--config-file", str(settings), "-o", str(out)]
        words = [f"{name}={answer}" for name, answer in answers.items()]
        done = run(sys.executable, "-m", "cookiecutter", *options, project / "cookiecutter-plugin", *words)
        if done.returncode:
            raise ValueError(done.stdout + done.stderr)
        [made] = out.iterdir()
        return made

    return make


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)


def paths(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ---- what it writes ----------------------------------------------------------------------------------------

ALWAYS = {".gitignore", "README.md", "pyproject.toml", "tests/test_method.py"}


def test_the_proposed_answers_make_a_small_project(bake: Bake) -> None:
    made = bake()
    assert made.name == "mergecore-midpoint"
    assert paths(made) == ALWAYS | {"LICENSE", "mergecore_midpoint.py"}
    assert "Apache License" in (made / "LICENSE").read_text()
    assert len((made / "mergecore_midpoint.py").read_text().splitlines()) <= 35


def test_other_answers_make_other_paths(bake: Bake) -> None:
    made = bake(method="half_way", project="Merging.Half", module="halves", license="none yet")
    assert made.name == "Merging.Half"
    assert paths(made) == ALWAYS | {"halves.py"}


def test_the_author_stands_in_the_license_and_in_the_metadata(bake: Bake) -> None:
    made = bake(license="MIT", author='Ann "Other"')
    assert 'Copyright (c) Ann "Other"' in (made / "LICENSE").read_text()
    assert r'authors = [{ name = "Ann \"Other\"" }]' in (made / "pyproject.toml").read_text()


@pytest.mark.parametrize("method", ["midpoint", "a_method_with_a_long_name"])
def test_what_it_writes_is_in_good_form_and_holds_no_gaps(method: str, bake: Bake) -> None:
    made = bake(method=method)
    rules = "A,B,C4,E,F,I,N,PT,RET,RUF,SIM,UP,W"
    options = ["--isolated", "--no-cache", "--line-length", "110", "--select", rules]
    checked = run(sys.executable, "-m", "ruff", "check", *options, ".", cwd=made)
    assert checked.returncode == 0, checked.stdout
    for name in paths(made):
        assert "cookiecutter" not in (made / name).read_text(), name


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"method": "Mid-Point"},
            "method 'Mid-Point': small letters, digits and _ are expected, a letter first",
        ),
        ({"method": "lambda"}, "method 'lambda': a Python function cannot be called so"),
        ({"project": "-x"}, "project '-x': letters, digits, '-', '_' and '.' are expected"),
        ({"module": "3d"}, "module '3d': a Python name is expected"),
        ({"module": "json"}, "module 'json': this name is taken; 'mergecore_midpoint' would do"),
        ({"summary": 'a "b"'}, "summary: one line without quotation marks and backslashes is expected"),
    ],
)
def test_answers_that_would_not_work_are_refused(answer: dict[str, str], told: str, bake: Bake) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        bake(**answer)
    assert told in str(caught.value)


# ---- the plugin at work ------------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A new virtual environment that sees the packages of this one, but no mergecore."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    target = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    own = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # entries of a .pth file come behind what is installed here, and .pth files in them have no effect
    (Path(target) / "outer.pth").write_text("\n".join(sorted(own)) + "\n")
    return folder


def test_a_baked_plugin_installs_is_listed_and_merges(
    bake: Bake,
    build: Callable[[Path, Path], Path],
    wheel: Path,
    environment: Path,
    tmp_path: Path,
    write_model: WriteModel,
) -> None:
    made = bake(method="half_way", author="Somebody")
    plugin = build(made, tmp_path / "dist")
    python, mergecore = environment / "bin" / "python", environment / "bin" / "mergecore"
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--ignore-installed"]
    pip = ("-m", "pip", "--python", str(python), "install")
    installed = run(sys.executable, *pip, *options, wheel, plugin)
    assert installed.returncode == 0, installed.stderr

    light = run(python, "-c", "import sys, mergecore_half_way; sys.exit('torch' in sys.modules)")
    assert light.returncode == 0, "listing the plugin would load torch"
    where = run(python, "-c", "import mergecore; print(mergecore.__file__)").stdout.strip()
    assert Path(where).is_relative_to(environment)

    [row] = [line for line in run(mergecore, "plugins", "list").stdout.splitlines() if "half-way" in line]
    assert row.split()[0] == "half_way"
    assert row.endswith("(mergecore-half-way 0.1.0)")

    shown = run(mergecore, "methods", "show", "half_way").stdout
    assert "half_way: The point on the straight line between two models." in shown
    assert "number in [0, 1], shared, default 0.5" in shown
    assert "comes with mergecore-half-way 0.1.0" in shown

    models = [write_model(tmp_path / "a", 0.0), write_model(tmp_path / "b", 4.0)]
    entries = "".join(f"  - model: {model}\n" for model in models)
    config = tmp_path / "config.yml"
    config.write_text(f"merge_method: half_way\nmodels:\n{entries}parameters:\n  t: [0.25, 0.75]\n")
    merged = run(mergecore, "merge", config, tmp_path / "merged")
    assert merged.returncode == 0, merged.stderr
    tensors = load_file(tmp_path / "merged" / "model.safetensors")
    # the gradient is 0.25 at the first layer and 0.75 at the last, on the way from 0 to 4
    assert tensors["model.layers.0.mlp.up.weight"].unique().tolist() == [1.0]
    assert tensors["model.layers.1.mlp.up.weight"].unique().tolist() == [3.0]

    tested = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=made)
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
