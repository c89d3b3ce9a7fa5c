"""What is to be evaluated, as a file says it; read `read_evaluations`.

`evaluators: [{evaluator: perplexity, texts: dev.txt}]`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergecore import ConfigError, Document, Evaluator, InputError, MergecoreError, Params, Registry
from mergecore.config import Choice, read_params
from mergecore.errors import Collector, Place, did_you_mean
from mergecore.files import DocPath, parse_documents, read_text
from mergecore.types import Json
from mergecore_plugins.evaluation import MODEL

KEYS = ("evaluator", "name")
SECTION = "evaluators"


@dataclass(frozen=True)
class Evaluation:
    """An evaluator with its parameters, under a name."""

    name: str
    evaluator: Evaluator[Any]
    params: Params

    @property
    def files(self) -> list[Path]:
        """The files whose content decides the scores."""
        return [Path(path) for path in self.evaluator.files(self.params)]

    def limited(self, limit: int) -> Evaluation:
        """The same of the first samples only.

        Raises:
            ConfigError: E115 where the evaluator cannot be limited.
        """
        if "limit" not in type(self.params).model_fields:
            what = f"--limit: the evaluator '{self.evaluator.name}' has no parameter 'limit'"
            raise ConfigError("E115", what, hint="leave it out, or evaluate that one by itself")
        given = getattr(self.params, "limit", None)
        least = limit if given is None else min(limit, given)
        return Evaluation(self.name, self.evaluator, self.params.model_copy(update={"limit": least}))


def read_file(path: Path, registry: Registry) -> tuple[Evaluation, ...]:
    """The evaluations of a file; its paths are relative to its folder.

    Raises:
        MergecoreError: everything that is wrong with it, several as `Problems`.
    """
    try:
        documents = parse_documents(read_text(path), str(path))
    except ConfigError as error:
        if (error.hint or "").startswith("begin with"):
            error.hint = "begin with 'evaluators:', and a list below it"
        raise
    if len(documents) != 1:
        what = f"there are {len(documents)} documents; one is expected"
        raise ConfigError("E104", what, place=str(path), hint="write a file for each")
    document = documents[0]
    problems = Collector()
    for key in document.data:
        if key != SECTION:
            near = did_you_mean(key, [SECTION])
            what = f"unknown key '{key}' in a file of evaluators{near}"
            problems.add(ConfigError("E103", what, place=document.key_place((key,))))
    found: tuple[Evaluation, ...] = ()
    with problems.collecting():
        found = read_evaluations(document, registry, path.parent)
    problems.raise_any()
    return found


def read_evaluations(
    document: Document, registry: Registry, folder: Path, path: DocPath = (SECTION,)
) -> tuple[Evaluation, ...]:
    """The evaluations that stand in a list of a document.

    folder: what paths are relative to.  path: where the list stands.

    Raises:
        MergecoreError: everything that is wrong with them, several as `Problems`.
    """
    listed = _at(document.data, path)
    if not isinstance(listed, list) or not listed:
        what = "a list of evaluators is expected"
        raise ConfigError(
            "E104", what, place=document.place(path), hint="write 'evaluators: [{evaluator: …}]'"
        )
    problems = Collector()
    found: dict[str, Evaluation] = {}
    for number, written in enumerate(listed):
        with problems.collecting():
            one = _evaluation(document, (*path, number), written, registry, folder)
            if one.name in found:
                what, hint = f"two evaluations are called '{one.name}'", "give one of them another 'name'"
                raise ConfigError("E105", what, place=document.place((*path, number)), hint=hint)
            found[one.name] = one
    problems.raise_any()
    return tuple(found.values())


def _at(value: Any, path: DocPath) -> Any:
    for step in path:
        if not isinstance(value, Mapping | list) or (isinstance(value, Mapping) and step not in value):
            return None
        value = value[step]  # type: ignore[index]
    return value


def _evaluation(
    document: Document, path: DocPath, written: Json, registry: Registry, folder: Path
) -> Evaluation:
    named = written.get("evaluator") if isinstance(written, dict) else None
    if not isinstance(written, dict) or not isinstance(named, str):
        what = "an evaluation needs the name of its evaluator"
        raise ConfigError("E104", what, place=document.place(path), hint="write '{evaluator: perplexity, …}'")
    called = written.get("name")
    if called is not None and (not isinstance(called, str) or not called.strip()):
        what = "the name of an evaluation is not a text"
        raise ConfigError("E104", what, place=document.place((*path, "name")), hint="put it in quotes")
    name, sugar = _spelled_out(named)
    try:
        evaluator: Evaluator[Any] = registry.get(Evaluator, name)
    except MergecoreError as error:
        error.place = error.place or document.place((*path, "evaluator"))
        raise
    values = {key: value for key, value in written.items() if key not in KEYS}
    where: DocPath = (*path, "evaluator")
    choice = Choice(Evaluator, name, {**sugar, **values}, path, where, KEYS, document)
    params = _resolved(read_params(evaluator.params, choice), folder)
    found = Evaluation(called or named, evaluator, params)
    with registry.calling(Evaluator, name):
        read = {*found.files}
    problems = Collector()
    for key, paths in paths_in(params):
        for one in paths:
            if one in read and not one.is_file():
                place = document.place((*path, key) if key in values else where)
                problems.add(_missing(key, one, place))
    problems.raise_any()
    return found


def _missing(key: str, path: Path, place: Place | None) -> InputError:
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    near = "" if path.exists() else did_you_mean(path.name, sorted(beside))
    what = f"'{key}' names {path}, which is {'no file' if path.exists() else 'not there'}{near}"
    hint = "paths are relative to the folder of the file that names them"
    return InputError("E270", what, place=place, hint=hint)


def _spelled_out(named: str) -> tuple[str, dict[str, Json]]:
    """`python:FILE.py:NAME` as the evaluator and its parameters."""
    name, colon, rest = named.partition(":")
    if name != "python" or not colon:
        return named, {}
    before, _, function = rest.rpartition(":")
    return name, {"file": before, "function": function} if before.endswith(".py") else {"function": rest}


def _resolved(params: Params, folder: Path) -> Params:
    """Parameters whose paths are relative to a folder."""
    changed: dict[str, Any] = {}
    for name in type(params).model_fields:
        value = getattr(params, name)
        if MODEL in type(params).model_fields[name].metadata and isinstance(value, str):
            beside = folder / Path(value).expanduser()
            changed[name] = str(beside) if beside.exists() else value
        elif isinstance(value, Path):
            changed[name] = folder / value.expanduser()
        elif isinstance(value, tuple) and any(isinstance(one, Path) for one in value):
            changed[name] = tuple(folder / Path(one).expanduser() for one in value)
    return params.model_copy(update=changed) if changed else params


def paths_in(params: Params) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """The parameters that are paths, by name."""
    for name in type(params).model_fields:
        value = getattr(params, name)
        listed = value if isinstance(value, tuple) else (value,)
        if listed and all(isinstance(one, Path) for one in listed):
            yield name, listed
