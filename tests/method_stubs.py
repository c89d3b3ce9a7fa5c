"""The stub of `mergecore.methods`, which type checkers read: made of the built-in methods.

`python tests/method_stubs.py` writes it anew, after a change of a method or of its parameters.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mergecore import MergeMethod, Registry
from mergecore.pipeline.functions import attribute_of
from mergecore.pipeline.signatures import signature_of
from mergecore.plugins import summary_of

STUB = Path(__file__).resolve().parent.parent / "core" / "mergecore" / "methods" / "__init__.pyi"

HEAD = '''"""Merge methods as plain functions; made by tests/method_stubs.py."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeVar, overload

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Module

from mergecore import RunOptions

_A = TypeVar("_A", Tensor, npt.NDArray[Any], dict[str, Tensor], dict[str, npt.NDArray[Any]])

class _Method(Protocol):
    """A method of another package."""

    @overload
    def __call__(self, models: Sequence[_A], **arguments: object) -> _A: ...
    @overload
    def __call__(self, models: Sequence[Module], **arguments: object) -> dict[str, Tensor]: ...

def __getattr__(name: str) -> _Method: ...
'''


def stub() -> str:
    """The text of the stub."""
    registry = Registry.discover((), {})
    methods = [one for one in registry.all(MergeMethod) if registry.provider(MergeMethod, one.name).built_in]
    return HEAD + "\n".join(line for method in methods for line in _definitions(method))


def _definitions(method: MergeMethod[Any]) -> Iterator[str]:
    for kind, result in (("_A", "_A"), ("Module", "dict[str, Tensor]")):
        arguments = [f"models: Sequence[{kind}]", "*"]
        for one in list(signature_of(method).parameters.values())[1:]:
            written = one.annotation if isinstance(one.annotation, str) else one.annotation.__name__
            written = written.replace("Array | StateDict", kind)
            default = "" if one.default is inspect.Parameter.empty else f" = {one.default!r}"
            arguments.append(f"{one.name}: {written}{default}")
        yield "@overload"
        yield f"def {attribute_of(method.name)}({', '.join(arguments)}) -> {result}:"
        yield f'    """{summary_of(method)[:1].upper()}{summary_of(method)[1:]}."""'


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(STUB)], check=True)
