"""python: a function of yours says how good a model is.

It is called with the model, `mergecore.types.EvaluatedModel`, and the arguments of the config.  It returns a
number, numbers by name, or what evaluators yield: a `Score`, or several.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from mergecore import ConfigError, Evaluator, Field, Params, PluginError, hookimpl
from mergecore.errors import did_you_mean
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch
from mergecore_plugins.evaluation.imports import imported_files, importing_beside, module_files


class PythonParams(Params):
    """A function and what it is called with."""

    function: str = Field(
        description="the name of the function in 'file'; else MODULE:NAME of an installed package"
    )
    file: Path | None = Field(default=None, description="the Python file that has the function")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="what it is called with beside the model"
    )
    goal: Literal["max", "min"] = Field(
        default="max", description="whether more of what it returns is better, or less"
    )
    data: Path | tuple[Path, ...] = Field(
        default=(), description="files that it reads; results are kept until they change"
    )


def files(params: PythonParams) -> Iterable[Path]:
    """The file of the function, your modules that it imports, and the files that it reads."""
    own = [params.file] if params.file else module_files(params.function.rpartition(":")[0])
    if not own and (found := _origin(params)):
        own = [Path(found)]
    beside = [params.file.resolve().parent] if params.file else []
    imported = [one for file in own for one in imported_files(file, beside)]
    return [
        *dict.fromkeys([*own, *imported]),
        *(params.data if isinstance(params.data, tuple) else (params.data,)),
    ]


def _origin(params: PythonParams) -> str | None:
    try:
        spec = importlib.util.find_spec(params.function.rpartition(":")[0])
    except (ImportError, ValueError, AttributeError):
        return None
    return spec.origin if spec and spec.has_location else None


def check(params: PythonParams, models: Sequence[EvaluatedModel]) -> None:
    """Raise E105 for a function that is not there, and for files that it cannot read."""
    _function(params)
    for path in params.data if isinstance(params.data, tuple) else (params.data,):
        if not path.is_file():
            what = f"the function '{params.function}' is to read '{path}', which is not there"
            raise ConfigError("E105", what, hint="correct 'data'")


def _function(params: PythonParams) -> Callable[..., object]:
    """The function.

    Raises:
        ConfigError: E105.
    """
    module_name, _, name = params.function.rpartition(":")
    if not name or bool(module_name) == bool(params.file):
        what = f"'{params.function}' does not name a function"
        raise ConfigError("E105", what, hint="write 'python:FILE.py:NAME' or 'python:MODULE:NAME'")
    module = _module(params.file, module_name)
    module_name = str(params.file or module_name)
    function = getattr(module, name, None)
    if not callable(function):
        known = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        what = f"there is no function '{name}' in '{module_name}'{did_you_mean(name, known)}"
        raise ConfigError("E105", what, hint=f"it has {', '.join(known[:5]) or 'none'}")
    return function  # type: ignore[no-any-return]


def _module(path: Path | None, name: str) -> ModuleType:
    """The module of that name, or that of the file, which may import what lies beside it."""
    try:
        return importlib.import_module(name) if path is None else _executed(path)
    except Exception as error:  # somebody else's code raises anything
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        what = f"'{path or name}' cannot be imported{where}: {why}"
        raise ConfigError("E105", what, hint=_cure(path, error)) from error


def _executed(path: Path) -> ModuleType:
    text = path.read_bytes()
    module = ModuleType(f"mergecore_function_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look there for what annotations name
    with importing_beside(path):
        exec(compile(text, str(path), "exec"), vars(module))  # noqa: S102 - the user names the file
    return module


def _cure(path: Path | None, error: Exception) -> str:
    if path and not path.is_file():
        return "paths are relative to the file that names them"
    if not isinstance(error, ModuleNotFoundError):
        return f"correct '{path}'" if path else "--debug shows where"
    missing = (error.name or "").partition(".")[0]
    return (
        f"install '{missing}', or put {missing}.py beside '{path}'"
        if path
        else ("install the package that has it, or name a file: 'python:FILE.py:NAME'")
    )


def evaluate(model: EvaluatedModel, params: PythonParams, watch: Watch) -> Iterator[Score]:
    """What the function says."""
    function = _function(params)
    try:
        with importing_beside(params.file) if params.file else nullcontext():
            found = function(model, **params.arguments)
            scores = list(_scores(found, params))
    except Exception as error:
        what = (
            f"the function '{params.function}' failed: {type(error).__name__}: {' '.join(str(error).split())}"
        )
        raise PluginError("E604", what, hint="--debug shows where") from error
    done = max(score.samples for score in scores)
    watch(EvaluationProgress(done=done, total=done, scores=tuple(scores)))
    yield from scores


def _scores(found: object, params: PythonParams) -> Iterator[Score]:
    """Scores of what a function returns: numbers are of one sample each."""
    if isinstance(found, Score):
        yield found
    elif isinstance(found, Mapping):
        for name, value in found.items():
            yield Score(name=str(name), value=float(value), goal=params.goal, samples=1)
    elif isinstance(found, Iterable) and not isinstance(found, str):
        listed = list(found)
        if not listed or not all(isinstance(one, Score) for one in listed):
            raise TypeError("it returns a list that is not of scores")
        yield from listed
    else:
        name = params.function.rpartition(":")[2]
        yield Score(name=name, value=float(found), goal=params.goal, samples=1)  # type: ignore[arg-type]


@hookimpl
def mergecore_evaluators() -> Iterable[Evaluator[PythonParams]]:
    """Yield `python`."""
    yield Evaluator(
        name="python",
        evaluate=evaluate,
        params=PythonParams,
        summary="what a Python function of yours says of a model",
        check=check,
        files=files,
    )
