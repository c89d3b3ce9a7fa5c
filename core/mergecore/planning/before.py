"""Plans that are carried out before another one, and the models they will make; read `Before.add` and `in_order`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mergecore.errors import ConfigError, Place, PluginError, did_you_mean
from mergecore.files.safe_open import NO_STAMP
from mergecore.files.small_files import read_small
from mergecore.models.folder import ADAPTER, ADAPTER_WEIGHTS, open_adapter, open_folder
from mergecore.planning.side_files.collect import CONFIG
from mergecore.planning.state_dicts import NOWHERE
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


class Others(Protocol):
    """The documents beside the one that is planned, which it may read by their names."""

    def __contains__(self, name: object) -> bool:
        """Whether a document has this name."""

    def __iter__(self) -> Iterator[str]:
        """The names of all documents."""

    def need(self, name: str, reader: str, reference: ModelReference, place: Place | None) -> None:
        """Have a document planned, unless it is; it is then among the models of `Before`.

        reader: the document that reads it, at `place`.

        Raises:
            MergecoreError: ConfigError E118 when that leads in a circle, or it cannot be planned.
        """


class _Nobody:
    """The `Others` of a document that stands alone."""

    def __contains__(self, name: object) -> bool:
        return False

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def need(self, name: str, reader: str, reference: ModelReference, place: Place | None) -> None:
        raise AssertionError("there is nobody")


@dataclass(frozen=True)
class Before:
    """What is carried out before the plan of a document.

    scratch: a folder for the small files of models that are not made yet.  actual: the models that are, or that are
    computed while they are read.  scope: the document whose plan is made, before the names that its recipe gives;
    empty for the one that is the result.
    """

    scratch: Callable[[], Path]
    actual: Mapping[str, Actual] = field(default_factory=dict)
    others: Others = field(default_factory=_Nobody)
    scope: str = ""
    fused: Collection[str] = ()
    """Which of the plans are not carried out: what they would make is computed while it is read."""
    fuse: Callable[[Plan, Checkpoint], Checkpoint] | None = None
    """The model that such a plan would make, of what was promised."""
    plans: dict[str, Plan] = field(default_factory=dict)
    """By name, in order."""
    models: dict[str, Checkpoint] = field(default_factory=dict)
    """What they make, by the same names."""
    scopes: dict[str, str] = field(default_factory=dict)
    """By the name of a plan of a recipe, the scope in which it names other models."""
    read: dict[str, dict[str, None]] = field(default_factory=dict)
    """By the name of a document, the names of those that it reads."""

    def add(self, name: str, plan: Plan) -> Checkpoint:
        """Carry out `plan` before: the model that it makes, which later plans open as `name`.

        Raises:
            PluginError: E605 for a name that is taken or cannot be one, and for a plan whose result cannot be read.
        """
        if not _NAME.fullmatch(name):
            raise _wrong(f"'{name}' cannot be the name of a plan, which is also that of a folder")
        if self._key(name) in self.plans or name in self.others:
            raise _wrong(f"two plans are called '{name}'")
        if plan.documents:
            raise _wrong(f"the plan '{name}' has plans before it; make it with `planner.compile`")
        if fault := unreadable(plan, "later plans"):
            raise _wrong(f"the plan '{name}' {fault}")
        self.scopes[self._key(name)] = self.scope
        return self.put(self._key(name), plan, ModelReference(name))

    def put(self, key: str, plan: Plan, reference: ModelReference) -> Checkpoint:
        """The same for a plan of which all is known to be right."""
        promised = self._promised(key, plan, reference)
        self.plans[key] = plan
        if self.fuse and key in self.fused:
            promised = self.fuse(plan, promised)
        self.models[key] = self.actual[key](promised) if key in self.actual else promised
        return self.models[key]

    def has(self, name: str) -> bool:
        """Whether an earlier plan or another document is called so."""
        return self.key_of(name) in self.models or name in self.others

    def find(
        self, reference: ModelReference, place: Place | None, *, adapter: bool = False
    ) -> Checkpoint | None:
        """The model that an earlier plan or another document makes; None where the reference names neither.

        Raises:
            MergecoreError: ConfigError E118 when it makes no such thing; what `Others.need` raises.
        """
        if reference.adapters:
            return None  # who puts them on asks for the base
        key = self.key_of(reference.path)
        if key not in self.models:
            if reference.path not in self.others:
                return None
            self.others.need(reference.path, self.scope, reference, place)
        self.read.setdefault(self.scope, {})[key] = None
        made = self.models[key]
        if is_adapter(made) != adapter:
            makes, wanted = ("a model", "an adapter") if adapter else ("an adapter", "a model")
            hint = None if adapter else f"write 'BASE+{reference.path}' for a model with the adapter on it"
            what = f"'{reference.path}' makes {makes}, and {wanted} is expected"
            raise ConfigError("E118", what, place=place, hint=hint)
        return replace(made, reference=reference)

    def near(self, text: str) -> str:
        """What to say of a document whose name is nearly `text`, which names no model; empty where there is none."""
        return did_you_mean(text, list(self.others)).replace("; did you mean", "did you mean the document")

    def key_of(self, name: str) -> str:
        """What a model is called among `plans` and `models` that a document calls `name`."""
        return key if (key := self._key(name)) in self.models else name

    def key_in(self, plan: str, name: str) -> str:
        """The same for a model that the plan called `plan` calls `name`."""
        return replace(self, scope=self.scopes.get(plan, plan)).key_of(name)

    def _key(self, name: str) -> str:
        return f"{self.scope}.{name}" if self.scope else name

    def _promised(self, name: str, plan: Plan, reference: ModelReference) -> Checkpoint:
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
        adapter = is_adapter_plan(plan)
        files = [folder / file.name for file in plan.layout.files]
        tensors: dict[str, TensorInfo] = {}
        read: set[Path] = set()
        for one in plan.outputs:
            slot = plan.layout.slots[one.name]
            if adapter and files[slot.file].name != ADAPTER_WEIGHTS:
                continue  # nobody who opens an adapter looks there
            stored = Stored(one.name, one.dtype, one.shape, files[slot.file], slot.offset)
            tensors[one.name] = TensorInfo(one.name, stored)
            read.add(stored.file)
        weights = [one for one in zip(files, plan.layout.files, strict=True) if one[0] in read or not adapter]
        open_it = open_adapter if adapter else open_folder
        opened = open_it(folder, reference, weights=False)
        return replace(
            opened,
            tensors=tensors,
            weight_files=tuple(WeightFile(path, file.size, "", NO_STAMP) for path, file in weights),
        )


def unreadable(plan: Plan, readers: str) -> str | None:
    """Why `readers` could not read what a plan makes, as the end of a sentence; None where they can."""
    if other := [file.name for file in plan.layout.files if not file.name.endswith(".safetensors")]:
        return f"makes {other[0]}, and only safetensors can be read by {readers}"
    if encoded := next((key for key, slot in plan.layout.slots.items() if slot.encoding), None):
        return f"encodes '{encoded}', which {readers} could not read"
    return None


def names_in(reference: ModelReference) -> tuple[str, ...]:
    """What a reference names: a model, and adapters."""
    return (reference.path, *(one.path for one in reference.adapters))


def is_adapter_plan(plan: Plan) -> bool:
    """Whether a plan makes an adapter and not a model."""
    return ADAPTER in plan.side_files and CONFIG not in plan.side_files


def is_adapter(model: Checkpoint) -> bool:
    """Whether what was opened is an adapter and not a model."""
    return ADAPTER in model.side_files and CONFIG not in model.side_files


def is_promised(model: Checkpoint) -> bool:
    """Whether the weights of a model are those of a plan that is not carried out yet."""
    return model.fetch is None and any(not any(file.stamp) for file in model.weight_files)


def reopened(folder: Path, content: str, promised: Checkpoint) -> Checkpoint:
    """The model that was promised, once it is in a folder; `content`: what identifies all that is in it."""
    open_it = open_adapter if is_adapter(promised) else open_folder
    return open_it(folder, promised.reference, content)


def settled(plan: Plan, scratch: Path) -> Plan:
    """A plan that needs nothing of the folder for small files: what it takes from there is part of it."""
    files = {
        name: read_small(content, code="E236", max_bytes=_MAX_BYTES)
        if isinstance(content, Path) and content.is_relative_to(scratch)
        else content
        for name, content in plan.side_files.items()
    }
    models = tuple(_settled(one, scratch) for one in plan.models)
    return replace(plan, side_files=files, models=models)


def _settled(model: Checkpoint, scratch: Path) -> Checkpoint:
    if not model.folder.is_relative_to(scratch):
        return model
    parts = tuple(_settled(one, scratch) for one in model.parts)
    return replace(model, folder=NOWHERE, side_files={}, small={}, parts=parts)


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
