"""The template of plugins: cookiecutter makes the same of it as `mergecore new-plugin`, also from the wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from baked_plugins import KINDS, Baked, bake, run
from fixture_types import Cli

pytestmark = pytest.mark.slow

Cook = Callable[..., Path]

ANSWERS = (
    ('ABC\'s "best" \\ merges', "MIT"),
    ("Zoë Müller 😀 & <sons>", "BSD-3-Clause"),
    ("%(x)s $HOME `ls` # ;", "none"),
    ("Your name", "Apache-2.0"),
)


@pytest.fixture
def cook(project: Path, tmp_path: Path) -> Cook:
    """A function that makes a project of the template with some answers, the others as proposed."""
    settings = tmp_path / "cookiecutter.yml"
    settings.write_text(f"cookiecutters_dir: {tmp_path}/cookiecutters\nreplay_dir: {tmp_path}/replay\n")

    def make(out: Path, **answers: str) -> Path:
        options = ["--no-input", "--config-file", str(settings), "-o", str(out)]
        words = [f"{name}={answer}" for name, answer in answers.items()]
        done = run(sys.executable, "-m", "cookiecutter", *options, project / "cookiecutter-plugin", *words)
        if done.returncode:
            raise ValueError(done.stdout + done.stderr)
        [made] = out.iterdir()
        return made

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_both_ways_give_the_same_bytes(number: int, cli: Cli, cook: Cook, tmp_path: Path) -> None:
    kind, (author, licence) = KINDS[number], ANSWERS[number % len(ANSWERS)]
    name = f"my_first-{kind}"
    options = ("--author", author, "--licence", licence)
    ours = contents(bake(cli, tmp_path / "ours", kind, name, *options).folder)
    theirs = cook(tmp_path / "theirs", kind=kind, name=name, author=author, licence=licence)
    assert theirs.name == f"mergecore-my-first-{kind}"
    assert contents(theirs) == ours
    assert len(ours) == 8 - (licence == "none")


def test_the_proposed_answers_are_the_same(cook: Cook, cli: Cli, tmp_path: Path) -> None:
    theirs = cook(tmp_path / "theirs")
    ours = bake(cli, tmp_path / "ours", "method", "my-method", "--author", "Your name")
    assert contents(theirs) == contents(ours.folder)
    assert theirs.name == "mergecore-my-method"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"name": "Mid-Point"}, "name 'Mid-Point': small letters and digits are expected"),
        ({"name": "ties"}, "name 'ties': mergecore has a plugin called 'ties'"),
        ({"name": "soup", "kind": "recipe", "author": " "}, "author: the name of a person or a group is expected"),
        ({"licence": "GPL"}, "GPL"),
        ({"kind": "planet"}, "planet"),
    ],
)  # fmt: skip
def test_cookiecutter_refuses_what_would_not_work(
    answers: dict[str, str], told: str, cook: Cook, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        cook(tmp_path / "out", **answers)
    assert told in str(caught.value)
    assert not [*tmp_path.glob("out/*")]


def test_the_wheel_brings_the_template_and_every_module_in_it_compiles(
    wheel: Path, project: Path, cli: Cli, tmp_path: Path
) -> None:
    """As package tools compile all that ends in `.py`; and what is baked of it is the same."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    compiled = run(sys.executable, "-m", "compileall", "-q", "-o", "0", tmp_path / "site")
    assert compiled.returncode == 0, compiled.stdout
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from mergecore.cli import main; main()"
    words = ["new-plugin", "midpoint", "--author", "A", "--output", "installed"]
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "site", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours = bake(cli, tmp_path / "checkout", "method", "midpoint", "--author", "A")
    assert contents(tmp_path / "installed" / ours.project) == contents(ours.folder)


def test_the_template_proposes_every_kind(project: Path) -> None:
    asked = json.loads((project / "cookiecutter-plugin" / "cookiecutter.json").read_text(encoding="utf8"))
    assert asked["kind"] == list(KINDS)
    assert set(asked["__prompts__"]["kind"]) == {"__prompt__", *KINDS}


@pytest.mark.parametrize("name", ["x", "a-name-of_30-letters-is-long-30"])
def test_what_is_written_is_in_good_form_and_holds_no_gaps(name: str, cli: Cli, tmp_path: Path) -> None:
    baked = [
        bake(cli, tmp_path, kind, f"{name}-{number}", "--author", "A") for number, kind in enumerate(KINDS)
    ]
    rules = "A,B,C4,E,F,I,N,PT,RET,RUF,SIM,UP,W"
    options = ["--isolated", "--no-cache", "--line-length", "120", "--select", rules]
    checked = run(sys.executable, "-m", "ruff", "check", *options, ".", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    for one in baked:
        for path, text in contents(one.folder).items():
            assert b"cookiecutter" not in text, path
            assert b"{%" not in text, path
            assert text.endswith(b"\n"), path
            assert not text.endswith(b"\n\n"), path
        assert lines_of_module(one) <= 30


def lines_of_module(baked: Baked) -> int:
    return len((baked.folder / f"{baked.module}.py").read_text(encoding="utf8").splitlines())


def test_the_build_that_the_readme_names_makes_a_source_distribution_and_a_wheel(
    cli: Cli, tmp_path: Path
) -> None:
    baked = bake(cli, tmp_path, "method", "mid_point", "--author", "Zoë 😀")
    assert "`python -m build`" in baked.readme()
    built = run(sys.executable, "-m", "build", "--no-isolation", cwd=baked.folder)
    assert built.returncode == 0, built.stdout
    names = {path.name for path in (baked.folder / "dist").iterdir()}
    assert names == {"mergecore_mid_point-0.1.0.tar.gz", "mergecore_mid_point-0.1.0-py3-none-any.whl"}
    with zipfile.ZipFile(baked.folder / "dist" / "mergecore_mid_point-0.1.0-py3-none-any.whl") as archive:
        files = set(archive.namelist())
        metadata = archive.read("mergecore_mid_point-0.1.0.dist-info/METADATA").decode()
    facts = "mergecore_mid_point-0.1.0.dist-info"
    expected = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert files == {"mergecore_mid_point.py", *(f"{facts}/{name}" for name in expected)}
    for line in ("Author: Zoë 😀", "License-Expression: Apache-2.0", "Requires-Dist: mergecore"):
        assert f"{line}\n" in metadata
