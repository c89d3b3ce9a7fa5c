"""Projects made of the template of plugins: baked, built, installed in an environment of their own, and used."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixture_types import Cli, Outcome

KINDS = (
    "method", "source", "architecture", "tokenizer", "writer", "executor", "recipe", "command", "reporter",
    "side-file", "moe-family", "evaluator", "policy", "sampler",
)  # fmt: skip


@dataclass(frozen=True)
class Baked:
    """A project of the template."""

    kind: str
    name: str
    folder: Path

    @property
    def project(self) -> str:
        return self.folder.name

    @property
    def module(self) -> str:
        return self.project.replace("-", "_")

    def readme(self) -> str:
        return (self.folder / "README.md").read_text(encoding="utf8")


def bake(cli: Cli, out: Path, kind: str, name: str, *options: str) -> Baked:
    """The project that `mergecore new-plugin` writes into `out`."""
    done = cli("new-plugin", name, "--kind", kind, "--output", out, *options)
    assert done.code == 0, done.err
    return Baked(kind, name, out / f"mergecore-{name.replace('_', '-')}")


def run(*command: str | Path, cwd: Path | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command, in an environment that names no packages of this one."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, **more)


def build_wheel(source: Path, out: Path) -> Path:
    """The wheel of the project in `source`, built by hatchling without a network."""
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=source)
    assert done.returncode == 0, done.stderr
    [wheel] = out.glob("*.whl")
    return wheel


def wheels(projects: Sequence[Baked], out: Path) -> list[Path]:
    """A wheel of each project."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda one: build_wheel(one.folder, out / one.project), projects))


class Environment:
    """A new virtual environment that sees the packages of this one, but no mergecore."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin" / "python"
        self.site = Path(
            run(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
        )
        # entries of a .pth file come behind what is installed here
        (self.site / "outer.pth").write_text(f"{linked_packages(folder / 'outer')}\n")

    def install(self, *wheels: Path) -> None:
        self._pip("install", "--no-index", "--no-deps", "--no-compile", "--ignore-installed", *wheels)

    def uninstall(self, *projects: str) -> None:
        self._pip("uninstall", "--yes", *projects)

    def mergecore(self, lines: Sequence[tuple[Path, Mapping[str, str], Sequence[str]]]) -> list[Outcome]:
        """What command lines do, one after the other in one process."""
        asked = json.dumps([(str(folder), dict(environ), list(words)) for folder, environ, words in lines])
        script = Path(__file__).with_name("command_lines.py")
        done = run(self.python, script, input=asked)
        assert done.returncode == 0, done.stderr
        return [Outcome(*one) for one in json.loads(done.stdout)]

    def _pip(self, command: str, *words: str | Path) -> None:
        pip = (sys.executable, "-m", "pip", "--python", self.python, command)
        done = run(*pip, "--quiet", "--disable-pip-version-check", *words)
        assert done.returncode == 0, done.stderr


def linked_packages(folder: Path) -> Path:
    """A folder of links to the packages that this process can import, without mergecore and the plugins beside it."""
    folder.mkdir()
    own = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    for one in (one for path in dict.fromkeys([*own, *others]) for one in Path(path).iterdir()):
        link = folder / one.name
        of_mergecore = one.name.lstrip("_").startswith(("mergecore", "editable__mergecore"))
        if not of_mergecore and one.suffix != ".pth" and not link.exists():
            link.symlink_to(one)
    return folder


# ---- what a README says ------------------------------------------------------------------------------------

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def config_of(readme: str) -> str | None:
    """The config that a README shows."""
    return next((text for language, text in _FENCE.findall(readme) if language == "yaml"), None)


def usage(readme: str, folder: Path) -> Iterator[tuple[Path, Mapping[str, str], list[str]]]:
    """The command lines of mergecore that a README shows, in `folder`, with what is exported before."""
    environ: dict[str, str] = {}
    for text in (text for language, text in _FENCE.findall(readme) if language == "console"):
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "))
            if words[0] == "export":
                name, _, value = words[1].partition("=")
                environ[name] = value
            elif words[0] == "mergecore":
                yield folder, dict(environ), words[1:]
