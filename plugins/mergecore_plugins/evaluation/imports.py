"""Which files of the user a Python file imports: what it does depends on them too; read `imported_files`.

`importing_beside` lets a file import what lies in its folder.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_OURS = ("mergecore", __name__.partition(".")[0])


@contextmanager
def importing_beside(file: Path) -> Iterator[None]:
    """What lies beside the file can be imported, as in a script; the next file gets its own modules of these names."""
    folder, before = file.resolve().parent, set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        new = sys.modules.keys() - before
        # Inner namespaces ask their package where they lie, so that none may go before all have answered.
        for name in [name for name in new if _lies_in(folder, name)]:
            del sys.modules[name]


def _lies_in(folder: Path, name: str) -> bool:
    """Whether an imported module is one of this folder, or of a package in it."""
    module, top = sys.modules[name], name.partition(".")[0]
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    paths = [path for one in places if one for path in (Path(one), *Path(one).parents)]
    return folder / f"{top}.py" in paths or folder / top in paths


def imported_files(file: Path, beside: Sequence[Path] = ()) -> list[Path]:
    """The files that import statements of a file name, and of those that they name, in order of their paths.

    beside: folders where modules are looked for first.

    Nothing is run, so modules that are named at run time are not known.  Those of installed packages and of Python
    do not count: their versions tell one from another.
    """
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        for one in _named(waiting.pop(), [*beside, *_own_folders()]):
            if one not in found and one != file:
                found.add(one)
                waiting.append(one)
    return sorted(found)


def module_files(name: str) -> list[Path]:
    """The file of a module of the user, and those of the packages that it lies in; none of an installed one."""
    return [*_files(name, _own_folders())]


def _named(file: Path, absolute: Sequence[Path]) -> Iterator[Path]:
    """The files that the import statements of one file name."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # importing it says what is wrong
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield from _files(one.name, absolute)
        elif isinstance(node, ast.ImportFrom):
            folders = [file.parents[node.level - 1]] if node.level else absolute
            for one in node.names:
                yield from _files(f"{node.module}.{one.name}" if node.module else one.name, folders)


def _files(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """The file of a module in the first folder that has it, and those of the packages that it lies in."""
    parts = name.split(".")
    if parts[0] in _OURS:
        return
    for folder in folders:
        if not any((folder / f"{parts[0]}{end}").exists() for end in ("", ".py")):
            continue
        for count in range(1, len(parts) + 1):
            inner = folder.joinpath(*parts[:count])
            yield from (
                one for one in (inner / "__init__.py", inner.with_name(f"{inner.name}.py")) if one.is_file()
            )
        return


def _own_folders() -> list[Path]:
    """Where modules are looked for, without Python's own folders and those that packages are installed in."""
    installed = [Path(sysconfig.get_path(one)) for one in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [Path(one).resolve() for one in sys.path]
    return [
        one
        for one in folders
        if not any(one == other or other in one.parents for other in installed)
        and not {"site-packages", "dist-packages"} & {*one.parts}
    ]
