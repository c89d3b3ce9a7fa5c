"""What is handed to the functions of Python, and what is wrong with it; read `check`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from mergecore.errors import Collector, ConfigError
from mergecore.plugins.registry import Registry
from mergecore.types import Plan
from mergecore.types.execution import RunOptions
from mergecore.types.plans import PlanOptions

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from mergecore.types.events import Progress


def check(
    *,
    registry: Registry | None = None,
    plan_options: PlanOptions | None = None,
    run_options: RunOptions | None = None,
    progress: Progress | None = None,
) -> None:
    """Raise E104 for options that are none, and for values in them that cannot be meant; several as `Problems`."""
    problems = Collector()
    given = ((registry, Registry), (plan_options, PlanOptions), (run_options, RunOptions))
    for one, kind in given:
        if one is not None and not isinstance(one, kind):
            what = f"a {type(one).__name__} was given where mergecore.{kind.__name__} is expected"
            problems.add(ConfigError("E104", what))
        elif isinstance(one, PlanOptions | RunOptions):
            for error in _faults(one):
                problems.add(error)
    if progress is not None and not callable(progress):
        what = f"progress is a {type(progress).__name__}; a function that takes an event is expected"
        problems.add(ConfigError("E104", what))
    problems.raise_any()


def check_plan(plan: Plan) -> None:
    """Raise E104 for what is not a plan."""
    if not isinstance(plan, Plan):
        what = f"the plan is a {type(plan).__name__}; what mergecore.plan returns is expected"
        raise ConfigError("E104", what)


def listed(models: object) -> list[Any]:
    """The models, or tensors, of a list; E104 for what has none one after the other, as a single number."""
    alone = getattr(models, "shape", None) == ()  # a tensor that is a single number
    if isinstance(models, Mapping | str | bytes | type) or not isinstance(models, Iterable) or alone:
        what = f"the models are a {type(models).__name__}; a list of tensors or of state dicts is expected"
        raise ConfigError("E104", what, hint="`mergecore.merge_state_dicts` takes models by names")
    return list(models)


def dtype_word(dtype: object) -> str | None:
    """The name of a dtype, which may be one of torch or of numpy; None for none.

    Raises:
        ConfigError: E104.
    """
    if dtype is None or isinstance(dtype, str):
        return dtype
    if isinstance(dtype, np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.generic)):
        return str(np.dtype(dtype).name)
    if type(dtype).__module__ == "torch" and type(dtype).__name__ == "dtype":
        return str(dtype).removeprefix("torch.")
    what = f"dtype is a {type(dtype).__name__}; the name of one is expected, or one of torch or numpy"
    raise ConfigError("E104", what, hint="such as dtype='bfloat16'")


def check_name(name: object) -> None:
    """Raise E104 for the name of a tensor that is none."""
    if not (isinstance(name, str) and name):
        raise ConfigError("E104", f"name is {_shown(name)}; text is expected")


def refuse_gradients(parameters: Mapping[str, object]) -> None:
    """Raise E105 for values that differ from layer to layer, where a single tensor is merged, which has no layer."""
    problems = Collector()
    for name, value in parameters.items():
        rows = [*value.values()] if isinstance(value, Mapping) else value
        values = rows if isinstance(rows, list | tuple) else []
        if any(isinstance(one, list | tuple | Mapping) or _axes(one) for one in values) or _axes(value) > 1:
            what = f"parameter '{name}' has a list of values for a model, and a single tensor has no layers"
            problems.add(ConfigError("E105", what, hint="give one value for each model"))
    problems.raise_any()


def _axes(value: object) -> int:
    """Of a tensor or an array."""
    axes = getattr(value, "ndim", 0)
    return axes if isinstance(axes, int) else 0


def _faults(options: PlanOptions | RunOptions) -> list[ConfigError]:
    """What is wrong with the values of options, each with the name of its field."""
    from pydantic import ValidationError

    kind: type = type(options)
    found = []
    for name, adapter in _adapters(kind).items():
        value = getattr(options, name)
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            wanted = error.errors()[0]["msg"].removeprefix("Input should be ")
            what = f"{kind.__name__}({name}={_shown(value)}): it should be {wanted}"
            found.append(ConfigError("E104", what))
    if found:
        return found
    bounds = {"threads": 1, "max_memory": 1, "shard_size": 1, "seed": 0}
    low = {name: getattr(options, name) for name in bounds if getattr(options, name, None) is not None}
    return [
        ConfigError("E105", f"{kind.__name__}({name}={value}): it should be {bounds[name]} or more")
        for name, value in low.items()
        if value < bounds[name]
    ]


@cache
def _adapters(kind: type) -> Mapping[str, TypeAdapter[Any]]:
    """For each field of options, what is of its type."""
    from pydantic import TypeAdapter

    hints = get_type_hints(kind)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(kind)}


def _shown(value: object) -> str:
    """A value in a message; its type where it is long or cannot be shown."""
    simple = isinstance(value, str | int | float | Path) or value is None
    return repr(value) if simple and len(repr(value)) < 80 else f"a {type(value).__name__}"
