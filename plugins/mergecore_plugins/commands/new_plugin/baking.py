"""Fills the template of a plugin as cookiecutter does; read `answered`, then `baked`.

Importing this reads a small file and nothing heavy: the help of the command names the kinds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mergecore import OutputError
from mergecore.files import parse_json

if TYPE_CHECKING:
    from jinja2 import Environment


def _template() -> Path:
    """The folder of the template: in an installed wheel beside this file, else at the top of the project."""
    beside = Path(__file__).parent / "template"
    return beside if beside.is_dir() else Path(__file__).parents[4] / "cookiecutter-plugin"


TEMPLATE = _template()
PROJECT = TEMPLATE / "{{cookiecutter.__project}}"
DEFAULTS: dict[str, Any] = dict(
    cast("Mapping[str, Any]", parse_json((TEMPLATE / "cookiecutter.json").read_bytes(), code="E605"))
)
"""What is asked for, with the proposed answer or those there are to choose from."""
PROMPTS: dict[str, str] = {
    name: asked["__prompt__"] if isinstance(asked, dict) else asked
    for name, asked in DEFAULTS["__prompts__"].items()
}
"""How each is asked for."""
TITLES = [DEFAULTS["__prompts__"]["kind"][kind] for kind in DEFAULTS["kind"]]
"""A line for each kind of plugin."""


def answered(given: Mapping[str, str]) -> dict[str, str]:
    """All variables of the template: those given, what is proposed for the others, and what follows from them."""
    environment, known = _environment(), dict[str, str]()
    for name, proposed in DEFAULTS.items():
        if name in given:
            known[name] = given[name]
        elif isinstance(proposed, list):
            known[name] = proposed[0]
        elif isinstance(proposed, str):
            known[name] = environment.from_string(proposed).render(cookiecutter=known)
    return known


def baked(answers: Mapping[str, str]) -> dict[str, str]:
    """The texts of the project, by their paths in it."""
    environment = _environment()
    texts: dict[str, str] = {}
    for path in _files():
        name = environment.from_string(path).render(cookiecutter=answers)
        if not name.endswith("/") and name:  # what these answers leave out has no name
            texts[name] = environment.get_template(path).render(cookiecutter=answers)
    return texts


def write(texts: Mapping[str, str], folder: Path) -> None:
    """Write the project into a new folder, or nothing.

    Raises:
        OutputError: E501 where the folder exists, E505 where it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError as error:
        hint = "choose another name, or another folder with --output"
        raise OutputError("E501", "this exists already", place=str(error.filename), hint=hint) from error
    except OSError as error:
        raise _not_written(folder, error) from error
    try:
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf8", newline="\n")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise _not_written(folder, error) from error
        raise


def _not_written(folder: Path, error: OSError) -> OutputError:
    what = f"the project cannot be written: {error.strerror}"
    return OutputError("E505", what, place=str(folder), hint="choose another folder with --output")


def _files() -> Iterator[str]:
    for path in sorted(PROJECT.rglob("*")):
        if path.is_file():
            yield path.relative_to(PROJECT).as_posix()


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([PROJECT, TEMPLATE / "templates"])
    return Environment(  # noqa: S701 - the texts are no HTML
        loader=loader, undefined=StrictUndefined, keep_trailing_newline=True
    )
