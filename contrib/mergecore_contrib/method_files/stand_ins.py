"""Modules that stand in for mergekit and sd_mecha while a file is loaded, and gather what it defines."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from mergecore_contrib.method_files import new_mergekit, old_mergekit, sd_mecha
from mergecore_contrib.method_files.calling import Function
from mergecore_contrib.method_files.faults import PACKAGES
from mergecore_contrib.method_files.parameters import checked

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
"""What a config can name, as a plugin."""


class Found:
    """What a file defines, in its order."""

    def __init__(self) -> None:
        self.functions: list[Function] = []

    def merge_method(self, func: Any = None, **options: Any) -> Any:
        """The decorator of mergekit, of either version."""
        if func is None or isinstance(func, str):
            named = {"name": func} if func else {}
            return lambda function: self.merge_method(function, **named, **options)
        if not isinstance(options.get("name"), str):
            raise TypeError('a merge method needs a name: @merge_method(name="…")')
        if new_mergekit.is_kernel(func):
            made = new_mergekit.from_kernel(func, **options)
            self._take(new_mergekit.from_object(made))
            return made
        known = {key: options[key] for key in ("name", "reference_url") if key in options}
        self._take(old_mergekit.from_function(func, **known))
        return func

    def register(self, method: Any) -> None:
        """Take a method that is an object; those of the decorator are there already."""
        if all(one.name != method.spec.name for one in self.functions):
            self._take(new_mergekit.from_object(method))

    def of_sd_mecha(self, fn: Any = None, *, identifier: str | None = None, **options: Any) -> Any:
        """The decorator of sd-mecha."""
        if fn is None:
            return lambda function: self.of_sd_mecha(function, identifier=identifier, **options)
        if any(options.get(one) for one in ("is_conversion", "implements", "is_interface")) or isinstance(
            fn, type
        ):
            raise TypeError(f"'{fn.__name__}' is not a plain function of tensors")
        self._take(sd_mecha.from_function(fn, identifier or fn.__name__))
        fn.__wrapped__ = fn
        return fn

    def of_module(self, module: ModuleType) -> list[Function]:
        """All, with the classes of the module that nothing registers."""
        names = {one.name for one in self.functions}
        for one in vars(module).values():
            if not (isinstance(one, type) and issubclass(one, new_mergekit.MergeMethod)):
                continue
            if one.__module__ == module.__name__ and hasattr(one, "make_task"):
                made = old_mergekit.from_class(one())
                if made.name not in names:
                    self._take(made)
        return self.functions

    def _take(self, one: Function) -> None:
        name: object = one.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TypeError(f"the name {name!r} is not one of letters, digits, '_', '-' and '.'")
        if any(other.name == one.name for other in self.functions):
            raise TypeError(f"two merge methods are called '{one.name}'")
        self.functions.append(checked(one))


@contextmanager
def stand_ins(found: Found) -> Iterator[None]:
    """Let imports of mergekit and sd_mecha find the stand-ins, only for now."""
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in PACKAGES}
    ours = _modules(found)
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name in [one for one in sys.modules if one.partition(".")[0] in PACKAGES]:
            del sys.modules[name]
        sys.modules.update(before)


def _modules(found: Found) -> dict[str, ModuleType]:
    made: dict[str, ModuleType] = {}
    for path, names in _contents(found).items():
        made[path] = ModuleType(path, "Stands in for a module of another program.")
        vars(made[path]).update(names, __path__=[])
    for path, module in made.items():
        parent, _, name = path.rpartition(".")
        if parent:
            setattr(made[parent], name, module)
    return made


def _contents(found: Found) -> Mapping[str, Mapping[str, Any]]:
    """The names in each module."""
    base = _public(new_mergekit) | {
        "ConfigParameterDef": old_mergekit.ConfigParameterDef,
        "MergeTensorInput": Any,
    }
    easy = {"merge_method": found.merge_method}
    registry = {"register": found.register}
    tasks = {"Task": old_mergekit.Task}
    common = {"ModelReference": old_mergekit.ModelReference, "ImmutableMap": old_mergekit.ImmutableMap}
    architecture = {"WeightInfo": old_mergekit.WeightInfo}
    mecha: dict[str, Any] = {
        "merge_method": found.of_sd_mecha,
        "Parameter": sd_mecha.parameter,
        "Return": sd_mecha.returned,
        "StateDict": sd_mecha.StateDict,
    }
    return {
        "mergekit": {},
        "mergekit.graph": tasks,
        "mergekit.common": common,
        "mergekit.architecture": architecture,
        "mergekit.architecture.base": architecture,
        "mergekit.io": {},
        "mergekit.io.tasks": {"GatherTensors": Any},
        "mergekit.merge_methods": {**base, **easy, **registry},
        "mergekit.merge_methods.base": base,
        "mergekit.merge_methods.easy_define": easy,
        "mergekit.merge_methods.registry": registry,
        "mergekit.merge_methods.rectify_embed": {"rectify_embed_sizes": _as_they_are},
        "mergekit.merge_methods.generalized_task_arithmetic": {"get_mask": sign_mask},
        "sd_mecha": mecha,
        "sd_mecha.extensions": {},
        "sd_mecha.extensions.merge_methods": mecha,
    }


def _public(module: ModuleType) -> dict[str, Any]:
    """The classes and marks of a module."""
    return {name: one for name, one in vars(module).items() if name[:1].isupper()}


def _as_they_are(*_: object) -> None:
    """Tensors of one output have one shape when a method gets them."""


def sign_mask(
    delta: torch.Tensor, method: str = "sum", mask_dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Where the sign of `delta` (n, *shape) is that of the sum, or of most models; 0 counts as plus."""
    votes: Callable[..., torch.Tensor] = torch.sum
    total = votes(delta.sign() if method == "count" else delta, dim=0)
    elected = torch.where(total >= 0, 1, -1).to(delta.dtype)
    return (delta.sign() == elected).to(mask_dtype or delta.dtype)
