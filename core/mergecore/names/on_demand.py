"""Public names of a package that are imported when they are first used; read `on_demand`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

from mergecore.names.deprecation import Deprecated, warn_deprecated


def on_demand(
    package: str, homes: Mapping[str, str], former: Mapping[str, Deprecated] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """A `__getattr__` and a `__dir__` for a package whose modules hold its public names.

    homes: the public names of each module, with spaces between them.
    former: names that go away; each stands for another public name of the package until then.

    The package lists the same names in `__all__`, and imports them for type checkers.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> object:
        if former and name in former:
            warn_deprecated(f"{package}.{name}", former[name])
            return getattr(sys.modules[package], former[name].instead.removeprefix(f"{package}."))
        if name not in home:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home})

    return get, names
