"""A model to be evaluated, by whatever names it: a folder, a hub id, a config or a plan; read `opened`."""

from __future__ import annotations

import hashlib
import json
import shutil
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from mergecore import Checkpoint, Config, Plan, PlanOptions, Registry, RunOptions, execute, plan, run
from mergecore.types import EvaluatedModel, WeightFile

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".yml", ".yaml", ".json")
"""How files of configs end."""


@dataclass(frozen=True)
class Place:
    """Where and how models are opened and run.

    device: where they compute, such as cpu, cuda or auto.  dtype: what they compute in; `auto` as they are stored.
    """

    registry: Registry = field(default_factory=Registry.discover)
    device: str = "cpu"
    dtype: str = "auto"
    offline: bool = False


@dataclass(eq=False)
class PlannedModel:
    """The model that a plan makes, in memory.  A model that exists is a plan that takes all of it as it is.

    source: the model that exists, and is not made; None for a merge.
    tensors: makes them, for those who have another way than to carry out the plan.
    """

    name: str
    plan: Plan
    place: Place
    source: Checkpoint | None = None
    tensors: Callable[[], Mapping[str, Tensor]] | None = None
    _made: list[Any] = field(default_factory=list, repr=False)
    _written: list[Path] = field(default_factory=list, repr=False)

    @cached_property
    def identity(self) -> str:
        """A digest of its content; of a merge, of its config, and of the content of the models."""
        if self.source is not None:
            facts: Any = _content(self.source)
        else:
            facts = _made_from(self.plan)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def parents(self) -> Sequence[EvaluatedModel]:
        """The models that are merged, base first; none of one that exists."""
        if self.source is not None:
            return ()
        return [opened(name, place=self.place) for name in dict.fromkeys(_merged(self.plan))]

    def config(self) -> Any:
        """Its config."""
        from mergecore_plugins.evaluation.loading import config_of

        return config_of(self.name, self.plan.side_files)

    def module(self) -> Any:
        """The model of transformers that its config names, on the device; made once."""
        from mergecore.compute import device
        from mergecore_plugins.evaluation.loading import module_of

        if not self._made:
            chosen = device(self.place.device)
            module = module_of(self.name, self._tensors(), self.plan.side_files, self.place.dtype)
            self._made.append(module.to(chosen))
        return self._made[0]

    def _tensors(self) -> Mapping[str, Tensor]:
        if self.tensors is not None:
            return self.tensors()
        return run(self.plan, registry=self.place.registry, options=RunOptions())

    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        from mergecore_plugins.evaluation.loading import tokenizer_of

        return tokenizer_of(self.name, self.plan.side_files)

    def folder(self) -> Path:
        """The folder of a model that exists as it is; one of its own for any other, until nobody needs it."""
        if self.source is not None and _is_plain(self.source):
            return self.source.folder
        if not self._written:
            scratch = Path(mkdtemp(prefix="mergecore-"))
            weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
            self._written.append(scratch / "model")
        target = self._written[0]
        return target if target.is_dir() else execute(self.plan, target, registry=self.place.registry)

    def open(self, reference: str) -> EvaluatedModel:
        """Another model, or a config."""
        return opened(reference, place=self.place)

    def release(self) -> None:
        """Forget module and tokenizer, those of the parents too."""
        self._made.clear()
        self.__dict__.pop("_tokenizer", None)
        for one in self.__dict__.pop("parents", ()):
            one.release()  # others may hold it, too


def opened(given: str | Path | Config | Plan, *, name: str = "", place: Place | None = None) -> PlannedModel:
    """The model that a config or a plan makes, or that has this name; no weight is read.

    given: a model as configs name it; a file of a config, a config as a mapping, or its plan.
    name: what it is called; what is given, if nothing is said.

    Raises:
        MergecoreError: what is wrong with the config or the model.
    """
    place = place or Place()
    if isinstance(given, Plan):
        return PlannedModel(name or given.title or "the merge", given, place)
    options = PlanOptions(offline=place.offline)
    if isinstance(given, Mapping) or is_config(str(given)):
        config = given if isinstance(given, Mapping) else Path(given)
        made = plan(config, registry=place.registry, options=options)
        called = made.title or "the merge" if isinstance(given, Mapping) else str(given)
        return PlannedModel(name or called, made, place)
    itself: Config = {"merge_method": "passthrough", "models": [{"model": str(given)}]}
    made = plan(itself, registry=place.registry, options=options)
    return PlannedModel(name or str(given), made, place, made.models[0])


def is_config(text: str) -> bool:
    """Whether this is the file of a config."""
    return text.endswith(SUFFIXES) and Path(text).is_file()


def _is_plain(source: Checkpoint) -> bool:
    """Whether the folder of a model holds all of it, as transformers would read it."""
    plain = not source.parts and not source.mapped and source.fetch is None
    return plain and all(
        file.path.parent == source.folder and file.path.suffix == ".safetensors"
        for file in source.weight_files
    )


def made_by_documents(made: Plan) -> set[str]:
    """The names of models that other documents of a plan make."""
    return {one.name for one in made.earlier} | {one.name for one in made.documents}


def _merged(made: Plan) -> Iterator[str]:
    """The names of the models whose tensors are merged, also by the plans before."""
    promised = made_by_documents(made)
    for one in [*(earlier.plan for earlier in made.earlier), made]:
        used = {given.model for step in one.steps for given in step.everything}
        for index, model in enumerate(one.models):
            if index in used:
                yield from _there_before(model, promised)


def _there_before(model: Checkpoint, promised: Collection[str]) -> Iterator[str]:
    """The name of a model that is there; of one that is computed while it is read, those of what it is made from."""
    if model.name not in promised:
        yield model.name
        return
    for part in model.parts:
        yield from _there_before(part, promised)


# ---- what a model is ---------------------------------------------------------------------------------------


def _made_from(made: Plan) -> dict[str, Any]:
    """All that decides what a plan makes."""
    return {
        "document": dict(made.document),
        "seed": made.seed,
        "plugins": dict(made.plugins),
        "models": [_content(model) for model in made.models],
        "files": sorted(made.side_digests.items()),
        "earlier": [[one.name, _made_from(one.plan)] for one in made.earlier],
    }


def _content(model: Checkpoint) -> list[Any]:
    """A model by its content; by its revision where that vouches for its weights.

    One whose tensors are made of those of others, by how each is made too: that is not in their files.
    """
    named: list[Any] = []
    if model.parts or model.mapped:
        made = [(name, one.dtype, one.shape, one.identity) for name, one in sorted(model.tensors.items())]
        named = [str(model.reference), hashlib.sha256(repr(made).encode()).hexdigest()]
    files = [[model.file_name(file), file.size, _digest(file, model)] for file in model.weight_files]
    small = sorted((name, one.sha256) for name, one in model.small.items())
    return [*named, files, small, [_content(part) for part in model.parts]]


def _digest(file: WeightFile, model: Checkpoint) -> str:
    if model.revision is not None or model.fetch is not None or not file.path.exists():
        return f"{model.revision} {file.header_sha256}"
    return _sha256(file.path, file.size, file.stamp)


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, stamp: tuple[int, ...]) -> str:
    """The digest of a file, read once as long as it stays what it was."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
