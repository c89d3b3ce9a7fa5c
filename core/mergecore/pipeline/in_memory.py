"""A plan carried out in memory, and merges of models that are there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergecore.config.documents import Configs
from mergecore.engine.run import Run
from mergecore.errors import ConfigError
from mergecore.files.exhaustion import TO_RUN, check_memory, enough
from mergecore.output.inputs import check_unchanged, fetched, input_files, pinned
from mergecore.output.storages.memory import Memory, in_dtypes
from mergecore.pipeline.arguments import (
    check,
    check_name,
    check_plan,
    dtype_word,
    listed,
    refuse_gradients,
)
from mergecore.pipeline.keeping import Kept, during
from mergecore.pipeline.plans import plan
from mergecore.planning.before import (
    in_memory,
    in_order,
    scratch_folder,
)
from mergecore.planning.state_dicts import StateDicts, config_of
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Array,
    MergeMethod,
    Plan,
    StateDict,
)
from mergecore.types.events import Progress
from mergecore.types.execution import RunOptions
from mergecore.types.plans import PlanOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def run(
    plan: Plan,
    *,
    registry: Registry | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    kept: Kept | None = None,
) -> dict[str, Tensor]:
    """Carry out a plan in memory; every tensor of the output by its name, on the host, in its output dtype.

    Nothing is written; the options that concern a folder (`mode`, `overwrite`, `recheck`) have no effect.

    kept: what an earlier run has made, of which the tensors that would be made the same are taken over; it then holds
    what this run gives.

    Raises:
        MergecoreError: what is wrong with the models' numbers or the plugins.
    """
    check_plan(plan)
    check(registry=registry, run_options=options, progress=progress)
    registry = registry or Registry.discover()
    if plan.earlier:
        with scratch_folder() as scratch:
            run_one = partial(run, registry=registry, options=options, progress=progress, kept=kept)
            return run_one(in_order(plan, lambda one: partial(in_memory, run_one(one.plan)), scratch))
    plan = in_dtypes(pinned(plan))
    reads = input_files(plan)
    started = Run(plan, registry, options or RunOptions(), progress)
    check_memory(TO_RUN + started.estimate.peak)
    started.begin()
    storage = Memory(plan.outputs)
    with during(kept or Kept(), plan) as reuse:
        with enough(started.estimate.peak):
            started.fetch()
            started.steps(storage, lambda states: storage.take_over(reuse.same(states)))
        check_unchanged([*reads, *fetched(reads)])
        reuse.tensors |= storage.tensors
    return reuse.tensors


def merge_state_dicts(
    config: str | MergeMethod[Any] | Path | Configs,
    models: Mapping[str, StateDict],
    *,
    base: str | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    registry: Registry | None = None,
    plan_options: PlanOptions | None = None,
    run_options: RunOptions | None = None,
    progress: Progress | None = None,
    **parameters: object,
) -> dict[str, Tensor]:
    """Merge models that are in memory; every tensor of the result by its name, on the host.

    config: a merge method, or its name; or a config, a mapping or the path of a file, which has the models by
    their names in `models`.  A module counts by its `state_dict()`, and its `config` if it has one.
    base, dtype, seed, parameters: for a method, what a config would say: the name of the base model, the dtype
    of the result (that of the models if None), and the parameters of the method.  A parameter that may differ
    from model to model can be a list, in the order of the models without the base, or a dict by their names;
    `lambda` is a word of Python, so write `scale` (`threshold` for consensus_ta and consensus_ties).

    No tensor of `models` is copied or changed.  The numbers are those of a merge of the same models on disk.

    Raises:
        MergecoreError: everything that is wrong with config, models or plugins, several as `Problems`.
    """
    check(registry=registry, plan_options=plan_options, run_options=run_options, progress=progress)
    if isinstance(config, str | MergeMethod):
        return merged_by_method(
            config,
            models,
            base=base,
            dtype=dtype,
            seed=seed,
            parameters=parameters,
            registry=registry,
            plan_options=plan_options,
            run_options=run_options,
            progress=progress,
        )
    if parameters or base is not None or dtype is not None or seed:
        what = "base, dtype, seed and parameters belong in the config"
        raise ConfigError("E104", what, hint="write them there, or name a method in place of the config")
    return _merged(
        config, StateDicts(models), registry or Registry.discover(), plan_options, run_options, progress
    )


def merged_by_method(
    named: str | MergeMethod[Any],
    models: Mapping[str, StateDict],
    *,
    base: str | None,
    dtype: str | torch.dtype | None,
    seed: int,
    parameters: Mapping[str, object],
    registry: Registry | None = None,
    plan_options: PlanOptions | None = None,
    run_options: RunOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """As `merge_state_dicts` with a method, whose parameters may have any names."""
    check(registry=registry, plan_options=plan_options, run_options=run_options, progress=progress)
    word = dtype_word(dtype)
    given = StateDicts(models)
    registry = registry or Registry.discover()
    if isinstance(named, MergeMethod) and named not in registry.all(MergeMethod):
        registry = registry.with_methods(named)
    method = registry.get(MergeMethod, named) if isinstance(named, str) else named
    more = {"seed": seed, **({"dtype": word} if word is not None else {})}
    config = config_of(method, list(models), base, parameters, more)
    return _merged(config, given, registry, plan_options, run_options, progress)


def _merged(
    config: Path | str | Configs,
    given: StateDicts,
    registry: Registry,
    plan_options: PlanOptions | None,
    run_options: RunOptions | None,
    progress: Progress | None,
) -> dict[str, Tensor]:
    registry.load_all()  # what is loaded need not be loaded again with the models
    registry = registry.with_sources(given.source)
    made = plan(config, registry=registry, options=plan_options)
    given.check_opened()
    merged = run(made, registry=registry, options=run_options, progress=progress)
    return merged | {name: merged[one] for name, one in given.tied.items() if one in merged}


def merge_tensors(
    method: str | MergeMethod[Any],
    tensors: Sequence[Array],
    *,
    base: Array | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    registry: Registry | None = None,
    run_options: RunOptions | None = None,
    **parameters: object,
) -> Tensor:
    """Merge tensors of one shape, each of which may have its own dtype; the result has that shape.

    tensors: of torch, or arrays of numpy; the models beside `base`.
    name: what a method that draws random numbers draws by, and what messages call the tensor.
    dtype, seed, parameters: as for `merge_state_dicts`.

    Raises:
        MergecoreError: what is wrong with tensors or parameters, several as `Problems`.
    """
    check_name(name)
    if not isinstance(method, str | MergeMethod):
        raise ConfigError(
            "E104", f"the method is a {type(method).__name__}; a name or a MergeMethod is expected"
        )
    refuse_gradients(parameters)
    everyone = {f"tensors[{i}]": one for i, one in enumerate(listed(tensors))}
    everyone |= {} if base is None else {"base": base}
    given: dict[str, StateDict] = {key: {name: one} for key, one in everyone.items()}
    merged = merged_by_method(
        method,
        given,
        base=None if base is None else "base",
        dtype=dtype,
        seed=seed,
        parameters=parameters,
        registry=registry,
        run_options=run_options,
    )
    return merged[name]
