"""What is wrong with a file of merge methods, and where in it: while it is loaded, and while its functions run."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mergecore import ConfigError, MergecoreError, PluginError
from mergecore.errors import text_of

PACKAGES = ("mergekit", "sd_mecha")
"""What a file is written for, and need not be installed."""


def refused(file: Path, error: BaseException) -> ConfigError:
    """Why a file cannot be loaded."""
    if _of_packages(error):
        return ConfigError(
            "E105",
            f"{_place(file, error)}: {error}: mergecore stands in for the parts that define merge methods only",
            hint="put what it needs from there into the file",
        )
    words = error.msg if isinstance(error, SyntaxError) else text_of(error)
    return ConfigError(
        "E105", f"{_place(file, error)}: {type(error).__name__}: {words}", hint="correct the file"
    )


@contextmanager
def blaming(file: Path, method: str, tensor: str) -> Iterator[None]:
    """While a function of the file makes a tensor, say that it is the file which is wrong.

    Raises:
        PluginError: E604 for what the function raises, E605 for a function that needs what is not there.
    """
    try:
        yield
    except PluginError as error:
        if error.plugin:
            raise
        raise _blamed(file, method, tensor, error, error.code, error.what) from error
    except MergecoreError:
        raise
    except (Exception, SystemExit) as error:
        if _of_packages(error):
            what = f"it imports from {getattr(error, 'name', '')} while it runs: {error}"
            hint = "put the import at the top of the file, where mergecore stands in for it"
            raise _blamed(file, method, tensor, error, "E605", what, hint) from error
        what = " ".join(f"{type(error).__name__}: {text_of(error)}".split())
        raise _blamed(file, method, tensor, error, "E604", what) from error


def check_call(function: Callable[..., Any], given: Sequence[str], named: Sequence[str]) -> None:
    """Whether a function can be called with so many arguments by position, and with those by name.

    Raises:
        TypeError: when it cannot, or when what it returns is no result, as that of an `async` function.
    """
    kinds: Mapping[str, Callable[[object], bool]] = {
        "is async": lambda one: inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one),
        "yields": inspect.isgeneratorfunction,
    }
    name = getattr(function, "__name__", type(function).__name__)
    for word, is_one in kinds.items():
        if is_one(inspect.unwrap(function)):
            raise TypeError(f"'{name}' {word}; a function that returns a tensor is expected")
    try:
        inspect.signature(function).bind(*given, **dict.fromkeys(named))
    except TypeError as error:
        only = [one.name for one in inspect.signature(function).parameters.values() if one.name in named]
        only = [one for one in only if inspect.signature(function).parameters[one].kind.value == 0]
        why = f"the arguments before '/' are given by name: {', '.join(only)}" if only else str(error)
        raise TypeError(f"'{name}' cannot be called: {why}") from None


def _blamed(
    file: Path,
    method: str,
    tensor: str,
    error: BaseException,
    code: str,
    what: str,
    hint: str = "correct the file",
) -> PluginError:
    told = f"{_place(file, error)}: '{method}' failed on tensor '{tensor}': {what}"
    return PluginError(code, told, tensor=tensor, plugin="method_files", hint=hint)


def _of_packages(error: BaseException) -> bool:
    """Whether it is an import of what a file is written for."""
    missing = getattr(error, "name", None) or ""
    return isinstance(error, ImportError) and missing.partition(".")[0] in PACKAGES


def _place(file: Path, error: BaseException) -> str:
    """The line of the file that the error comes from, if it comes from one."""
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        lines.append(error.lineno)
    return f"{file}:{lines[-1]}" if lines and lines[-1] else str(file)
