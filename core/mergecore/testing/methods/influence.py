"""Whether everything that a method is given matters: its parameters, and its models; read `INFLUENCE`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mergecore.config.parameters.declared import Parameter, parameters_of
from mergecore.errors import MergecoreError
from mergecore.testing.findings import NotCheckedError, Property, demand
from mergecore.testing.methods.cases import MethodCase, inputs
from mergecore.testing.methods.drawing import (
    accepted,
    default_params,
    drawn_params,
    extreme_params,
    values_of,
)
from mergecore.testing.methods.running import Manner, Place, run_in
from mergecore.types.params import Params, for_inputs
from mergecore.types.steps import Depth

Weights = Mapping[str, Tensor]

PLACES: Mapping[str, Place] = {
    "model.embed_tokens.weight": Place(role="embed"),
    "model.layers.0.self_attn.q_proj.weight": Place(Depth(0, 3), "attn.q"),
    "model.layers.1.mlp.up_proj.weight": Place(Depth(1, 3), "mlp.up"),
    "model.layers.2.input_layernorm.weight": Place(Depth(2, 3), "norm"),
    "model.patches.weight": Place(),
}
SHAPES: Mapping[str, tuple[int, ...]] = dict(
    zip(PLACES, ((9, 6), (7, 6), (6, 7), (6,), (3, 2, 2)), strict=True)
)
CONTEXTS = 12
"""So many drawn parameters in whose company another one is tried."""


@dataclass(frozen=True)
class Models:
    """Whole models of a few tensors, and the base beside them where there is one."""

    models: Sequence[Weights]
    base: Weights | None

    def with_model(self, i: int, other: Weights) -> Models:
        """The same with another model `i`; the base is the last."""
        if i == len(self.models):
            return Models(self.models, other)
        return Models([other if j == i else one for j, one in enumerate(self.models)], self.base)


def _drawn_models(case: MethodCase) -> list[Models]:
    """Models that have nothing to do with each other, and models that are nearly the same."""
    found = []
    for seed, near in ((0, 0.0), (1, 1.0)):
        for with_base in case.bases:
            common = _drawn(seed, 1.0)
            everyone = [
                {name: near * common[name] + one * (0.1 if near else 1.0) for name, one in drawn.items()}
                for drawn in (_drawn(10 * seed + i + 5, 3.0) for i in range(case.n + with_base))
            ]
            found.append(Models(everyone[: case.n], everyone[-1] if with_base else None))
    return found


def _drawn(seed: int, growth: float) -> dict[str, Tensor]:
    """Normal numbers, in each tensor of another size; every third one is 0."""
    made = {}
    for place, (name, shape) in enumerate(SHAPES.items()):
        generator = torch.Generator().manual_seed(100 * seed + place)
        numbers = torch.randn(shape, generator=generator) * growth**place
        numbers.view(-1)[seed % 3 :: 3] = 0
        made[name] = numbers
    return made


class Outcomes:
    """What a method makes of models, each once; None where it does not merge them."""

    def __init__(self, case: MethodCase, drawn: Sequence[Models]) -> None:
        self._case = case
        self._drawn = drawn

    def of(self, params: Params) -> Iterator[Weights | None]:
        """Of all models, one after the other."""
        return (self.one(params, given) for given in self._drawn)

    def one(self, params: Params, given: Models) -> Weights | None:
        """Of some models."""
        try:
            return run_in(Manner(places=PLACES), self._case.method, params, given.models, given.base)
        except MergecoreError:
            return None
        except Exception:  # noqa: BLE001 - the properties of numbers tell of it
            return None


def _same(one: Weights | None, other: Weights | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(torch.equal(one[name], other[name]) for name in one)


def _contexts(case: MethodCase) -> list[Params]:
    """Parameters in whose company others are tried: those of the case, and others from all over their ranges."""
    others = (*extreme_params(case.method, case.n), *drawn_params(case.method, case.n, CONTEXTS, 3))
    return [for_inputs(one, case.n) for one in (case.params, *others)]


def _every_parameter_is_used(case: MethodCase) -> None:
    declared = [one for one in parameters_of(case.method.params).values() if _is_judged(case, one)]
    if not declared:
        raise NotCheckedError("it has no parameters with values that can be tried")
    outcomes, contexts = Outcomes(case, _drawn_models(case)), _contexts(case)
    if not any(outcomes.of(case.params)):
        raise NotCheckedError("it merges none of the models that are tried")
    for one in declared:
        for i in range(case.n) if one.per_model else (None,):
            of = "" if i is None else f" of model {i + 1} alone"
            demand(
                _matters(case, outcomes, contexts, one, i),
                f"its parameter '{one.name}'{of} changes nothing, whatever the value is: let it count, or remove it",
            )


def _is_judged(case: MethodCase, parameter: Parameter) -> bool:
    """Whether other values of a parameter can be made up; a deprecated one need not count any more."""
    return not parameter.deprecated and len(list(values_of(parameter))) > 1


def _matters(
    case: MethodCase, outcomes: Outcomes, contexts: Sequence[Params], parameter: Parameter, i: int | None
) -> bool:
    """Whether some change of a parameter changes a result; also where a plan takes no change of it alone."""
    tried = False
    for context in contexts:
        before = None
        for params in _changed(case, context, parameter, i):
            tried = True
            before = before or list(outcomes.of(context))
            if any(not _same(one, other) for one, other in zip(before, outcomes.of(params), strict=True)):
                return True
    return not tried


def _changed(case: MethodCase, context: Params, parameter: Parameter, i: int | None) -> Iterator[Params]:
    plain: dict[str, Any] = {name: getattr(context, name) for name in type(context).model_fields}
    now = plain[parameter.field]
    for value in values_of(parameter):
        row = value if i is None else tuple(value if j == i else one for j, one in enumerate(now))
        made = accepted(case.method, {**plain, parameter.field: row}, case.n) if row != now else None
        if made is not None:
            yield made


def _every_model_is_heard(case: MethodCase) -> None:
    if case.n < inputs(case.method):
        n = inputs(case.method)
        case = MethodCase(case.method, default_params(case.method, n), n)
    drawn = _drawn_models(case)
    outcomes, contexts = Outcomes(case, drawn), _contexts(case)
    if not any(outcomes.of(case.params)):
        raise NotCheckedError("it merges none of the models that are tried")
    for i in range(case.n + any(case.bases)):
        drawn_anew = _drawn(77 + i, 2.0)
        others = [{name: x * size for name, x in drawn_anew.items()} for size in (1.0, 1e3, 1e-3)]
        demand(
            any(
                not _same(outcomes.one(params, given), outcomes.one(params, given.with_model(i, other)))
                for params in contexts
                for given in drawn
                for other in others
                if i < case.n or given.base is not None
            ),
            f"{'the base' if i == case.n else f'model {i + 1} of {case.n}'} changes nothing, "
            "whatever its numbers are: let it count, or say by `models` how many there may be",
        )


INFLUENCE: Sequence[Property[MethodCase]] = (
    Property("used", "every parameter changes something", _every_parameter_is_used),
    Property("heard", "every model changes the result", _every_model_is_heard),
)
"""What every method does with what it is given."""
