"""Plans that are carried out before another one, and the models they will make; read `Before.add` and `in_order`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, TypeAlias

from mergecore.errors import PluginError
from mergecore.files.read_small import read_small
from mergecore.files.safe_open import NO_STAMP
from mergecore.models.folder import open_folder
from mergecore.types import (
    Checkpoint,
    Earlier,
    InMemory,
    ModelReference,
    Plan,
    Stored,
    TensorInfo,
    WeightFile,
)

if TYPE_CHECKING:
    from torch import Tensor

Actual: TypeAlias = Callable[[Checkpoint], Checkpoint]
"""The model that a plan has made, of what was promised."""

_NAME = re.compile(r"\w[\w.-]{0,99}")
_MAX_BYTES = 2**30


@dataclass(frozen=True)
class Before:
    """What is carried out before the plan of a document.

    scratch: a folder for the small files of models that are not made yet.  actual: the models that are.
    """

    scratch: Callable[[], Path]
    actual: Mapping[str, Actual] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    """By name, in order."""
    models: dict[str, Checkpoint] = field(default_factory=dict)
    """What they make, by the same names."""

    def add(self, name: str, plan: Plan) -> Checkpoint:
        """Carry out `plan` before: the model that it makes, which later plans open as `name`.

        Raises:
            PluginError: E605 for a name that is taken or cannot be one, and for a plan whose result cannot be read.
        """
        if not _NAME.fullmatch(name):
            raise _wrong(f"'{name}' cannot be the name of a plan, which is also that of a folder")
        if name in self.plans:
            raise _wrong(f"two plans are called '{name}'")
        if plan.earlier:
            raise _wrong(f"the plan '{name}' has plans before it; make it with `planner.compile`")
        if other := [file.name for file in plan.layout.files if not file.name.endswith(".safetensors")]:
            raise _wrong(
                f"the plan '{name}' makes {other[0]}, and only safetensors can be read by later plans"
            )
        if encoded := next((key for key, slot in plan.layout.slots.items() if slot.encoding), None):
            raise _wrong(f"the plan '{name}' encodes '{encoded}', which later plans could not read")
        promised = self._promised(name, plan)
        self.plans[name] = plan
        self.models[name] = self.actual[name](promised) if name in self.actual else promised
        return self.models[name]

    def _promised(self, name: str, plan: Plan) -> Checkpoint:
        """What opening the output of a plan will give: its side files are there, its weights are not."""
        folder = Path(mkdtemp(dir=self.scratch()))
        for file, content in {**plan.layout.index_files, **plan.side_files}.items():
            data = (
                content
                if isinstance(content, bytes)
                else read_small(content, code="E236", max_bytes=_MAX_BYTES)
            )
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        files = [folder / file.name for file in plan.layout.files]
        tensors = {}
        for one in (one for step in plan.steps for one in step.outputs):
            slot = plan.layout.slots[one.name]
            stored = Stored(one.name, one.dtype, one.shape, files[slot.file], slot.offset)
            tensors[one.name] = TensorInfo(one.name, stored)
        weights = zip(files, plan.layout.files, strict=True)
        return replace(
            open_folder(folder, ModelReference(name), weights=False),
            tensors=tensors,
            weight_files=tuple(WeightFile(path, file.size, "", NO_STAMP) for path, file in weights),
        )


def in_order(plan: Plan, make: Callable[[Earlier], Actual], scratch: Callable[[], Path]) -> Plan:
    """The plan that reads what the plans before it make, each of which `make` carries out.

    Raises:
        PluginError: E605 when a recipe makes a different plan once the earlier models exist.
    """
    made: dict[str, Actual] = {}
    while todo := [one for one in plan.earlier if one.name not in made]:
        made[todo[0].name] = make(todo[0])
        assert plan.again
        anew = plan.again(made, scratch)
        if anew.layout != plan.layout or _names(anew) != _names(plan):
            raise _wrong(f"recipe '{plan.recipe}' makes a different plan once the earlier models exist")
        plan = anew
    return replace(plan, earlier=(), again=None)


def _names(plan: Plan) -> list[str]:
    return [one.name for one in plan.earlier]


def in_memory(tensors: Mapping[str, Tensor], promised: Checkpoint) -> Checkpoint:
    """The model that was promised, its tensors in memory."""
    infos = {name: TensorInfo(name, InMemory(name, tensor)) for name, tensor in tensors.items()}
    return replace(promised, tensors=infos, weight_files=())


@contextmanager
def scratch_folder() -> Iterator[Callable[[], Path]]:
    """A folder for small files, made when it is asked for, and gone after the body."""
    with ExitStack() as stack:

        @cache
        def folder() -> Path:
            return Path(stack.enter_context(TemporaryDirectory(prefix="mergecore-")))

        yield folder


def _wrong(what: str) -> PluginError:
    return PluginError("E605", what, hint="report it to the authors of the recipe")
