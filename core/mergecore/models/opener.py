"""Opens and describes the models that a config names, with whichever plugins can; read `Opener`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from mergecore.config.architecture import ArchitectureFile
from mergecore.config.reference import exists_below, parse_reference
from mergecore.errors import Collector, InputError, MergecoreError, Place, PluginError, placed, some
from mergecore.files.yaml_document import DocPath, PlaceOf
from mergecore.models.layers import split_name
from mergecore.models.refine import refined
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Architecture,
    Checkpoint,
    Description,
    Json,
    Loadability,
    Loaded,
    ModelReference,
    ModelSource,
    OpenOptions,
    Proposal,
    TensorFacts,
    TensorInfo,
)


class Known(Protocol):
    """Models that go by a name and are opened by no source."""

    def has(self, name: str) -> bool:
        """Whether some model goes by that name."""

    def find(
        self, reference: ModelReference, place: Place | None, *, adapter: bool = False
    ) -> Checkpoint | None:
        """The model, or the adapter, that a reference at `place` names; None where it is none of these."""

    def near(self, text: str) -> str:
        """What to say of one whose name is nearly `text`, as a hint; empty where there is none."""


class Nothing:
    """The `Known` where every model is opened by a source."""

    def has(self, name: str) -> bool:
        """No."""
        return False

    def find(
        self, reference: ModelReference, place: Place | None, *, adapter: bool = False
    ) -> Checkpoint | None:
        """None."""
        return None

    def near(self, text: str) -> str:
        """Nothing."""
        return ""


@dataclass(frozen=True)
class WithOpened:
    """Opened models by the names that a document may call them by, and what else is known."""

    opened: Mapping[str, Checkpoint]
    others: Known

    def has(self, name: str) -> bool:
        """Whether it is one of these or of the others."""
        return name in self.opened or self.others.has(name)

    def find(
        self, reference: ModelReference, place: Place | None, *, adapter: bool = False
    ) -> Checkpoint | None:
        """The model of that name."""
        if reference.path in self.opened and not (reference.revision or reference.adapters):
            return replace(self.opened[reference.path], reference=reference)
        return self.others.find(reference, place, adapter=adapter)

    def near(self, text: str) -> str:
        """What the others say."""
        return self.others.near(text)


NOT_THERE = ("E701", "E702", "E704")
"""The errors of a source that finds no model by a name."""


@dataclass(frozen=True)
class Opener:
    """What opening a model needs: plugins, what the user allows, and where references are written."""

    registry: Registry
    options: OpenOptions
    place_of: PlaceOf
    architectures: tuple[ArchitectureFile, ...] = ()
    """What the config itself knows about model families."""
    opening: tuple[ModelReference, ...] = ()
    """The models that are being opened, of which each needs the next."""
    known: Known = field(default_factory=lambda: Nothing())
    """Models that no source opens, since they are made before the plan."""

    def open_all(self, mentioned: Sequence[tuple[ModelReference, DocPath]]) -> tuple[Checkpoint, ...]:
        """The models, with the paths of the config that name them.

        Raises:
            MergecoreError: everything that is wrong with any of them.
        """
        found: dict[str | int, list[MergecoreError]] = {}
        opened = []
        for reference, path in mentioned:
            try:
                opened.append(self.open(reference, path))
            except MergecoreError as error:
                network = error.__cause__ if error.code == "E704" else None
                found.setdefault(repr(network) if network else len(found), []).append(error)
        problems = Collector()
        for errors in found.values():
            problems.add(_of_one_cause(errors))
        problems.raise_any()
        return tuple(opened)

    def open(self, reference: ModelReference, path: DocPath) -> Checkpoint:
        """The model, opened by the first source that accepts it.

        Raises:
            MergecoreError: E701 when none does, or what is wrong with the model.
        """
        if made := self.known.find(reference, self.place_of(path), adapter=self.options.adapter):
            return made
        if reference in self.opening:
            way = " → ".join(map(str, (*self.opening, reference)))
            what = f"'{reference}' is made from itself: {way}"
            raise InputError("E701", what, place=self.place_of(path))
        further = partial(self._open_further, reference, path)
        options = replace(self.options, open_model=further, map_keys=self._map_keys)
        for source in sorted(self.registry.all(ModelSource), key=lambda one: (one.rank, one.name)):
            with (
                self._suggesting(reference.path),
                placed(self.place_of(path)),
                self.registry.calling(ModelSource, source.name),
            ):
                if source.accepts(reference, options):
                    return _opened(source, source.open(reference, options))
        what = f"'{reference}': no installed plugin opens it; a folder or a hub id is expected"
        hint = self._unusable()
        if reference.adapters:
            what = f"'{reference}': no installed plugin opens a model with an adapter"
        raise InputError("E701", what, place=self.place_of(path), hint=hint)

    @contextmanager
    def _suggesting(self, text: str) -> Iterator[None]:
        """Name the known model that may have been meant, where nothing goes by the name of `text`."""
        try:
            yield
        except InputError as error:
            near = self.known.near(text) if error.code in NOT_THERE else ""
            if near not in (error.hint or ""):
                error.hint = f"{near} Else {error.hint}" if error.hint else near
            raise

    def _open_further(
        self,
        outer: ModelReference,
        path: DocPath,
        reference: ModelReference | str,
        *,
        weights: bool = True,
        adapter: bool = False,
    ) -> Checkpoint:
        """Another model, which the source of `outer` asks for."""
        if isinstance(reference, str):
            reference = parse_reference(reference, exists_below(Path()))
        options = replace(self.options, weights=weights, adapter=adapter)
        return replace(self, options=options, opening=(*self.opening, outer)).open(reference, path)

    def _map_keys(self, checkpoint: Checkpoint, wanted: Checkpoint) -> Mapping[str, TensorInfo] | None:
        """The tensors of `checkpoint` as `wanted` has them, by the first describer that knows how."""
        for one in self.key_mappers():
            with self.registry.calling(Architecture, one.name):
                tensors = one.map_keys(checkpoint, wanted) if one.map_keys else None
            if tensors is not None:
                return tensors
        return None

    def check_local(self, text: str, path: DocPath) -> bool:
        """Raise what is wrong with the model that `text` names; whether that is known without a network."""
        exists = exists_below(Path())
        local = self.options.offline or text.startswith(("/", "./", "../", "~")) or exists(text)
        local = local or self.known.has(text)
        if local:
            self.open(parse_reference(text, exists), path)
        return local

    def describe(self, checkpoint: Checkpoint, thorough: bool = False) -> Description:
        """What the first describer that knows the model says about it; slow ones are asked if `thorough`."""
        for architecture in self._architectures():
            if architecture.slow and not thorough:
                continue
            with self.registry.calling(Architecture, architecture.name):
                description = architecture.describe(checkpoint)
            if description is not None:
                return self._refined(complete(description, checkpoint), checkpoint)
        raise PluginError(
            "E605", "no installed plugin describes checkpoints", hint="enable the plugin 'names'"
        )

    def _refined(self, description: Description, checkpoint: Checkpoint) -> Description:
        """The description with what the files of the config say."""
        for known in self.architectures:
            with placed(self.place_of(("architecture",))):
                description = refined(description, checkpoint, known)
        return description

    def loaded(self, checkpoint: Checkpoint, like: Checkpoint) -> Loaded:
        """The modules that the first describer that knows the class named by `like` makes of a checkpoint."""
        for architecture in self._architectures():
            if architecture.loaded is not None:
                with self.registry.calling(Architecture, architecture.name):
                    found = architecture.loaded(checkpoint, like)
                if found is not None:
                    return found
        return Loaded({}, checkpoint.tensors)

    def loadability(self, proposal: Proposal) -> Loadability | None:
        """What the first describer that can judge a model to be made says about it; None when no one can."""
        for architecture in self._architectures():
            if architecture.loadability is not None:
                with self.registry.calling(Architecture, architecture.name):
                    fit = architecture.loadability(proposal)
                if fit is not None:
                    return fit
        return None

    def keeps_f32(self, checkpoint: Checkpoint, dtype: str) -> frozenset[str]:
        """The tensors that a loader holds in float32 when the rest of the model is in `dtype`."""
        names: set[str] = set()
        for architecture in self._architectures():
            if architecture.keeps_f32 is not None:
                with self.registry.calling(Architecture, architecture.name):
                    names.update(architecture.keeps_f32(checkpoint, dtype))
        return frozenset(names)

    def completed(self, checkpoint: Checkpoint) -> Mapping[str, Json] | None:
        """The config as the first describer that knows its loader completes it; None when no one does."""
        for architecture in self._architectures():
            if architecture.completed is not None:
                with self.registry.calling(Architecture, architecture.name):
                    config = architecture.completed(checkpoint)
                if config is not None:
                    return config
        return None

    def key_mappers(self) -> list[Architecture]:
        """The describers that can map keys, the cheap ones first."""
        return sorted((one for one in self._architectures() if one.map_keys), key=lambda one: one.slow)

    def _architectures(self) -> list[Architecture]:
        return sorted(self.registry.all(Architecture), key=lambda one: (one.rank, one.name))

    def _unusable(self) -> str | None:
        """What the user may want to know when a plugin is wanted that is not there."""
        plugins = [plugin for plugin in self.registry.plugins() if plugin.reason]
        names = ", ".join(f"{plugin.name} ({plugin.status})" for plugin in plugins)
        return f"these plugins cannot be used: {names}; see `mergecore plugins list`" if names else None


def _of_one_cause(errors: Sequence[MergecoreError]) -> MergecoreError:
    """The first of errors with one cause, such as a network that is down, and how many models it is so for."""
    first, *others = errors
    if others:
        places = some([str(one.place) for one in others], 3)
        first.what += f"; so it is for {len(others)} more model{'s' if len(others) > 1 else ''}: {places}"
    return first


def _opened(source: ModelSource, made: object) -> Checkpoint:
    if not isinstance(made, Checkpoint):
        what = f"model source '{source.name}' returns {type(made).__name__} in place of a Checkpoint"
        raise PluginError("E605", what)
    return made


def complete(description: Description, checkpoint: Checkpoint) -> Description:
    """The description with every tensor of the checkpoint and no other: it can neither lose nor invent one."""
    if description.tensors.keys() == checkpoint.tensors.keys():
        return description
    known = {name: one for name, one in description.tensors.items() if name in checkpoint.tensors}
    stacks = {stack.prefix for stack in description.stacks}
    for name in checkpoint.tensors:
        parts = split_name(name)
        layer = parts if parts and parts[0] in stacks else (None, None, name)
        known.setdefault(name, TensorFacts(*layer))
    return replace(description, tensors=known)


def check_architectures(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise E222 when the configs are of different model families."""
    families = {
        one.name: family for one in checkpoints if (family := str(one.config.get("model_type") or ""))
    }
    if len(set(families.values())) > 1:
        told = ", ".join(f"{name} is {family}" for name, family in families.items())
        raise InputError(
            "E222",
            f"the models are of different architectures: {told}",
            hint="remove the one that differs, or say with 'from' and 'into' which part of the others it matches; "
            "--allow-crimes merges them as long as names and shapes agree",
        )
