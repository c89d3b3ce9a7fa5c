"""Loads a file of merge methods, and says what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import importlib_metadata

from mergecore import ConfigError, MergecoreError, MergeMethod
from mergecore_contrib.method_files.calling import Function, as_method
from mergecore_contrib.method_files.faults import refused
from mergecore_contrib.method_files.parameters import class_of
from mergecore_contrib.method_files.stand_ins import Found, stand_ins


def load(path: str | Path) -> list[MergeMethod[Any]]:
    """The merge methods that a file defines."""
    file = Path(path).expanduser().resolve()
    if not file.is_file() or file.suffix != ".py":
        raise ConfigError("E105", f"'{path}' is not a Python file", hint="name a file that ends with .py")
    found = Found()
    text, before = file.read_bytes(), set(sys.modules)
    with stand_ins(found):
        functions = _functions(file, text, found)
    if not functions:
        raise ConfigError(
            "E105",
            f"{path}: it defines no merge method for mergekit or sd-mecha",
            hint="decorate a function with @merge_method",
        )
    taken = [one.name for one in functions if one.name in _built_in()]
    if taken:
        raise ConfigError(
            "E105",
            f"{path}: a built-in merge method is called '{taken[0]}' too",
            hint="give it another name in the file",
        )
    digest = sha256(str(file).encode() + text).hexdigest()[:16]
    version = f"sha256 {_digest(text, file.parent, sys.modules.keys() - before)}"
    return [as_method(one, class_of(one, digest), file, version) for one in functions]


_beside: dict[Path, dict[str, str]] = {}
"""By folder: digests of the modules there that files of this process have imported, as they were then."""


def _digest(text: bytes, folder: Path, imported: Iterable[str]) -> str:
    """Of a file, and of the modules beside it that it may have imported."""
    known = _beside.setdefault(folder, {})
    for name in imported:
        place = getattr(sys.modules.get(name), "__file__", None)
        top = name.partition(".")[0]
        if place and (folder / f"{top}.py" == Path(place) or folder / top in Path(place).parents):
            known[name] = sha256(Path(place).read_bytes()).hexdigest()
    return sha256(b"".join([text, *(f"{one} {known[one]}\n".encode() for one in sorted(known))])).hexdigest()


class _OfBytes(SourceFileLoader):
    """Runs the bytes that the digest is of, and nothing that was compiled earlier."""

    def __init__(self, name: str, file: Path, text: bytes) -> None:
        super().__init__(name, str(file))
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        """The bytes, compiled."""
        return self.source_to_code(self._text, self.path)


def _functions(file: Path, text: bytes, found: Found) -> Sequence[Function]:
    try:
        return found.of_module(_module(file, text))
    except (KeyboardInterrupt, MergecoreError):
        raise
    except BaseException as error:
        raise refused(file, error) from error


def _module(file: Path, text: bytes) -> ModuleType:
    """The file, executed as a module; it may import what lies beside it."""
    name = f"mergecore_method_file_{sha256(str(file).encode()).hexdigest()[:12]}"
    spec = spec_from_file_location(name, file, loader=_OfBytes(name, file, text))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(file.parent))
    return module


def _built_in() -> set[str]:
    """The names of the merge methods that come with mergecore."""
    points = importlib_metadata.distribution("mergecore").entry_points.select(group="mergecore")
    return {one.name for one in points if one.value.startswith("mergecore_plugins.methods.")}
