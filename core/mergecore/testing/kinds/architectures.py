"""Checks of what describes models; read `check_architecture`, then `ARCHITECTURE`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from mergecore.pipeline.plans import planner
from mergecore.plugins.registry import Registry
from mergecore.testing.checkpoints import TinyFamily, tiny_model
from mergecore.testing.findings import NotCheckedError, Property, demand, hold
from mergecore.testing.registries import registry_with
from mergecore.types import Architecture, Checkpoint, Description
from mergecore.types.plans import PlanOptions


def check_architecture(
    architecture: Architecture,
    *models: Checkpoint | Path | str,
    registry: Registry | None = None,
    without: Collection[str] = (),
) -> None:
    """Check what a describer says about models: that it is true of their tensors, whole, and the same each time.

    models: opened ones, or references; it must describe each of them.  Without any, the tiny models of this kit are
        taken, of which it must describe at least one.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with architecture_case(architecture, models, registry) as case:
        hold(f"architecture '{architecture.name}'", ARCHITECTURE, case, without)


# ---- architectures -----------------------------------------------------------------------------------------


@dataclass
class ArchitectureCase:
    """A describer, and models for it to describe."""

    architecture: Architecture
    models: Sequence[Checkpoint]
    chosen: bool
    """Whether the models were chosen for it, so that it must describe all of them."""
    described: list[tuple[Checkpoint, Description]] = field(default_factory=list)


@contextmanager
def architecture_case(
    architecture: Architecture,
    models: Sequence[Checkpoint | Path | str],
    registry: Registry | None = None,
) -> Iterator[ArchitectureCase]:
    """A case for `ARCHITECTURE`."""
    opener = planner(
        registry=registry or registry_with(Architecture, architecture), options=PlanOptions(offline=True)
    )
    with TemporaryDirectory() as folder:
        given: Sequence[Checkpoint | Path | str] = models or [
            tiny_model(Path(folder) / family, family) for family in get_args(TinyFamily)
        ]
        opened = [one if isinstance(one, Checkpoint) else opener.open(str(one)) for one in given]
        yield ArchitectureCase(architecture, opened, bool(models))


def _describes(case: ArchitectureCase) -> None:
    case.described.clear()
    for model in case.models:
        said = case.architecture.describe(model)
        demand(
            said is None or isinstance(said, Description),
            f"`describe` returns {type(said).__name__} for {_label(model)}; return a Description, or None",
        )
        demand(
            said is not None or not case.chosen,
            f"it does not describe {_label(model)}: `describe` returns None",
        )
        if said is not None:
            case.described.append((model, said))
    if not case.described:
        raise NotCheckedError("it describes none of the tiny models; give it a model that it describes")


def _every_description(case: ArchitectureCase) -> Iterator[tuple[Checkpoint, Description]]:
    if not case.described:
        _describes(case)
    yield from case.described


def _label(model: Checkpoint) -> str:
    return f"the model of type '{model.config.get('model_type', '')}' ({model.name})"


def _describes_the_same(case: ArchitectureCase) -> None:
    for model, said in _every_description(case):
        demand(
            case.architecture.describe(model) == said,
            f"asked twice, it describes {_label(model)} in another way; let it depend on the model alone",
        )


def _names_itself(case: ArchitectureCase) -> None:
    for model, said in _every_description(case):
        demand(
            said.by and said.by.partition(":")[0].partition(" ")[0],
            f"`Description.by` is empty for {_label(model)}; it is the name of the describer, which plans show",
        )


def _tensors_are_there(case: ArchitectureCase) -> None:
    for model, said in _every_description(case):
        unknown = set(said.tensors) - set(model.tensors)
        demand(
            not unknown,
            f"it describes tensors that {_label(model)} does not have, such as '{min(unknown, default='')}'; "
            "a description cannot add tensors",
        )
        for name, stands_for in said.tied.items():
            demand(name not in model.tensors, f"`tied` has '{name}', which {_label(model)} has on disk")
            demand(
                stands_for in model.tensors,
                f"`tied` says that '{stands_for}' stands for '{name}', and {_label(model)} has no such tensor",
            )


def _stacks_fit(case: ArchitectureCase) -> None:
    for model, said in _every_description(case):
        counts = {stack.prefix: stack.count for stack in said.stacks}
        demand(
            said.main is None or said.main in said.stacks,
            f"`main` is not one of the stacks of {_label(model)}",
        )
        for name, facts in said.tensors.items():
            if facts.stack is None:
                demand(facts.layer is None, f"'{name}' is in no stack and has the layer {facts.layer}")
                continue
            demand(
                facts.stack in counts,
                f"'{name}' is in the stack '{facts.stack}', which `stacks` of {_label(model)} lacks",
            )
            demand(
                facts.layer is not None and 0 <= facts.layer < counts[facts.stack],
                f"'{name}' is in layer {facts.layer} of a stack of {counts[facts.stack]} layers",
            )
            demand(
                name == f"{facts.stack}{facts.layer}.{facts.suffix}",
                f"'{name}' is said to be '{facts.suffix}' in layer {facts.layer} of '{facts.stack}'; "
                "stack, layer and suffix together are the name",
            )


def _axes_fit(case: ArchitectureCase) -> None:
    for model, said in _every_description(case):
        for name, facts in said.tensors.items():
            axis = facts.vocabulary_axis
            demand(
                axis is None or 0 <= axis < len(model.tensors[name].shape),
                f"'{name}' of {_label(model)} has {len(model.tensors[name].shape)} axes, "
                f"and axis {axis} is said to be that of tokens",
            )


def _counts_fit(case: ArchitectureCase) -> None:
    for model, said in _every_description(case):
        keys = [(said.layer_count_key, said.main)]
        keys += [(one.layer_count_key, one.stack) for one in said.modules]
        for key, stack in keys:
            if key is None:
                continue
            value: object = model.config
            for part in key:
                value = value.get(part) if isinstance(value, Mapping) else None
            demand(
                isinstance(value, int),
                f"`layer_count_key` is {'.'.join(key)}, where the config of {_label(model)} has {value!r}",
            )
            demand(
                stack is None or value == stack.count,
                f"the config of {_label(model)} counts {value} layers at {'.'.join(key)}, "
                f"and the stack has {stack.count if stack else 0}",
            )


def _modules_fit(case: ArchitectureCase) -> None:
    for model, said in _every_description(case):
        names = [one.name for one in said.modules]
        demand(len(names) == len(set(names)), f"two modules of {_label(model)} have one name: {names}")
        for name, facts in said.tensors.items():
            demand(
                not said.modules or facts.module in ("", *names),
                f"'{name}' is in the module '{facts.module}', which `modules` of {_label(model)} lacks",
            )


def _keys_map(case: ArchitectureCase) -> None:
    if case.architecture.map_keys is None:
        raise NotCheckedError("it does not map keys")
    for model, _ in _every_description(case):
        mapped = case.architecture.map_keys(model, model)
        demand(
            mapped is None or all(name in mapped for name in model.tensors),
            f"mapped to its own names, {_label(model)} lacks tensors; `map_keys` must keep every one",
        )


ARCHITECTURE: Sequence[Property[ArchitectureCase]] = (
    Property("describes", "it describes models", _describes),
    Property("same", "asked again, it says the same", _describes_the_same),
    Property("name", "the description says who made it", _names_itself),
    Property("tensors", "it describes tensors that are there, and no others", _tensors_are_there),
    Property("stacks", "stacks, layers and suffixes fit the names", _stacks_fit),
    Property("axes", "axes of tokens are axes of the tensors", _axes_fit),
    Property("counts", "the config counts layers where it says", _counts_fit),
    Property("modules", "modules are named once, and tensors are in one of them", _modules_fit),
    Property("keys", "mapped to its own names, a model keeps its tensors", _keys_map),
)
"""What every describer keeps."""
