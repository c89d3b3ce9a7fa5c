"""Which tensors a merge reads for each of its own, and what comes out: the whole of a config in float64.

Read `outcomes`, then `jobs`, which goes through models or slices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fuzz.reference.arrays import Array, Inputs, Result
from fuzz.reference.configs import Spot, is_merged, value_of, written_dtype
from fuzz.reference.formats import promoted
from fuzz.reference.methods import METHODS, Known
from fuzz.reference.whole_models import selected

LAYER = re.compile(r"^(model\.layers\.)(\d+)(\..*)$")


@dataclass(frozen=True)
class Tensors:
    """What a plan knows of a model."""

    tensors: Mapping[str, Array]
    dtypes: Mapping[str, str]

    @property
    def is_short(self) -> bool:
        """Whether most of its numbers have 16 bits."""
        sizes = {True: 0, False: 0}
        for name, dtype in self.dtypes.items():
            sizes[dtype in ("F16", "BF16")] += self.tensors[name].size
        return sizes[True] > sizes[False]


@dataclass(frozen=True)
class Source:
    """A tensor of a model, and the places that may set its parameters, the most particular first."""

    model: str
    tensor: str
    places: Sequence[Any]


@dataclass(frozen=True)
class Job:
    """A tensor to make."""

    name: str
    t: float
    sources: Sequence[Source]
    places: Sequence[Any]


@dataclass(frozen=True)
class Outcome:
    """What a merge must write for a tensor: numbers to a rounding, or exactly those of a copy."""

    dtype: str
    result: Result
    copied: bool
    eps: float
    base: Array | None = None


Rows = Callable[[str, str, Sequence[str]], "Array | None"]
"""Model, tensor and all merged models -> the rows in the order of another vocabulary, if they are moved."""


def jobs(config: dict[str, Any], models: Mapping[str, Tensors]) -> Iterator[Job]:
    """What to make of each tensor."""
    if "slices" in config:
        yield from _stacked(config, models)
        return
    listed = [dict(one) for one in config["models"]]
    base = config.get("base_model")
    if (
        base
        and base not in [one["model"] for one in listed]
        and METHODS[config["merge_method"]].base != "primary"
    ):
        listed.append({"model": base})
    primary = models[base or listed[0]["model"]]
    found = [LAYER.match(name) for name in primary.tensors]
    layers = 1 + max((int(one[2]) for one in found if one), default=-1)
    for name in primary.tensors:
        layer = LAYER.match(name)
        t = 0.0 if not layer else int(layer[2]) / (layers - 1) if layers > 1 else 1.0
        sources = [Source(one["model"], name, [one.get("parameters"), *_top(config)]) for one in listed]
        yield Job(name, t, sources, _top(config))


def _top(config: dict[str, Any]) -> list[Any]:
    return [config.get("parameters")]


def _stacked(config: dict[str, Any], models: Mapping[str, Tensors]) -> Iterator[Job]:
    """The layers of all slices, one after another; what is before them from the first, behind from the last."""
    slices = config["slices"]
    first_model = config.get("base_model") or slices[0]["sources"][0]["model"]
    for name in models[first_model].tensors:
        if not LAYER.match(name):
            one = slices[0] if "embed" in name else slices[-1]
            yield _job(config, one, name, [name] * len(one["sources"]), 0.0)
    above = 0
    for one in slices:
        begin, end = one["sources"][0]["layer_range"]
        for k in range(end - begin):
            inside = [
                sorted(
                    n
                    for n in models[s["model"]].tensors
                    if n.startswith(f"model.layers.{s['layer_range'][0] + k}.")
                )
                for s in one["sources"]
            ]
            t = k / (end - begin - 1) if end - begin > 1 else 1.0
            for names in zip(*inside, strict=True):
                name = LAYER.sub(rf"\g<1>{above + k}\g<3>", names[0])
                yield _job(config, one, name, names, t)
        above += end - begin


def _job(config: dict[str, Any], one: Any, name: str, names: Sequence[str], t: float) -> Job:
    """The job of a tensor of a slice."""
    places = [one.get("parameters"), *_top(config)]
    sources = [
        Source(source["model"], tensor, [source.get("parameters"), *places])
        for source, tensor in zip(one["sources"], names, strict=True)
    ]
    return Job(name, t, sources, places)


def outcomes(
    config: dict[str, Any], models: Mapping[str, Tensors], rows: Rows, seed: int
) -> Iterator[tuple[Job, Outcome]]:
    """Every tensor of the output, and what it must be."""
    known = METHODS[config["merge_method"]]
    merged: list[tuple[Job, str, Inputs, dict[str, Any]]] = []
    for job in jobs(config, models):
        if not is_merged(config, job.name):
            primary = models[config.get("base_model") or job.sources[0].model]
            array = primary.tensors[job.name]
            yield job, Outcome(primary.dtypes[job.name], Result(array, np.zeros(array.shape)), True, 0.0)
            continue
        inside, outside = _parted(job.sources, known, config.get("base_model"))
        inputs = _inputs(job, inside, outside, models, rows, seed)
        dtype = _dtype(job, config, models)
        if inputs.origin.size:
            merged.append((job, dtype, inputs, _params(known, job, inside)))
        else:
            yield job, Outcome(dtype, Result(inputs.origin, inputs.origin), False, inputs.eps)
    if merged and merged[0][3].get("scope") == "model":
        every = selected([inputs for _, _, inputs, _ in merged], [params for _, _, _, params in merged])
        merged = [
            (job, dtype, own, params) for (job, dtype, _, params), own in zip(merged, every, strict=True)
        ]
    for job, dtype, inputs, params in merged:
        yield job, Outcome(dtype, known.compute(inputs, params), False, inputs.eps, inputs.base)


def _inputs(
    job: Job,
    inside: Sequence[Source],
    outside: Source | None,
    models: Mapping[str, Tensors],
    rows: Rows,
    seed: int,
) -> Inputs:
    """The numbers of a job, in the order of the output's vocabulary."""
    everyone = [one.model for one in job.sources]
    arrays = {}
    for one in job.sources:
        moved = rows(one.model, one.tensor, everyone)
        arrays[one.model] = models[one.model].tensors[one.tensor] if moved is None else moved
    double = any(models[one.model].dtypes[one.tensor] == "F64" for one in job.sources)
    base = arrays[outside.model] if outside else None
    return Inputs(job.name, [arrays[one.model] for one in inside], base, double, seed)


def _dtype(job: Job, config: dict[str, Any], models: Mapping[str, Tensors]) -> str:
    """The format in which a tensor is written."""
    stored = [models[one.model].dtypes[one.tensor] for one in job.sources]
    wide = not {"F16", "BF16"} & set(stored)
    on_purpose = wide and any(models[one.model].is_short for one in job.sources)
    return written_dtype(config, promoted(stored), on_purpose)


def _parted(sources: Sequence[Source], known: Known, base: str | None) -> tuple[list[Source], Source | None]:
    """What a method takes as its models, and as its base."""
    if known.base == "primary" or base is None:
        return list(sources), None
    own = next(one for one in sources if one.model == base)
    rest = [one for one in sources if one.model != base]
    return ([own, *rest], None) if known.base == "first" else (rest, own)


def _params(known: Known, job: Job, inside: Sequence[Source]) -> dict[str, Any]:
    """All parameters of a method for a tensor."""
    found: dict[str, Any] = {}
    for name, parameter in known.parameters.items():
        if parameter.per_model:
            found[name] = [value_of(name, parameter, one.places, Spot(one.tensor, job.t)) for one in inside]
        else:
            found[name] = value_of(name, parameter, job.places, Spot(job.name, job.t))
    return found
