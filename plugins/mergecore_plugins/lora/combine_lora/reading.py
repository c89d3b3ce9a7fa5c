"""What an adapter changes, without its base: products of two factors, biases, whole tensors; read `read_adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mergecore.errors import Collector, InputError
from mergecore.files import DTYPES
from mergecore.types import Checkpoint, TensorInfo
from mergecore_plugins.lora import faults
from mergecore_plugins.lora.adapters import config_of
from mergecore_plugins.lora.changes import Added, Change
from mergecore_plugins.lora.config import AdapterConfig
from mergecore_plugins.lora.data import adapted
from mergecore_plugins.lora.kinds.factored import Multiplied
from mergecore_plugins.lora.kinds.singular import singular
from mergecore_plugins.lora.low_rank import Experts, LowRank
from mergecore_plugins.lora.making.kinds import FactorKind
from mergecore_plugins.lora.making.tensors import Zeros
from mergecore_plugins.lora.modules import check_rank, experts_in, factors_of, parameter_of
from mergecore_plugins.lora.names import AdapterModule, AdapterTensor, Use, modules, parts_of, plain


@dataclass(frozen=True)
class Factors:
    """The change of one weight: `scale · B A`."""

    kind: FactorKind
    a: TensorInfo
    b: TensorInfo
    scale: float
    rank: int
    stem: str
    """What stands before `.lora_A` in the file; of experts, the name of their module."""
    experts: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the change: (out, in, …), of an embedding (tokens, size), of experts (experts, out, in)."""
        if self.kind == "embedding":
            return self.a.shape[1], self.b.shape[0]
        if self.kind == "experts" and self.experts > 1:
            return self.experts, self.b.shape[0], self.a.shape[1]
        return (self.b.shape[0], *self.a.shape[1:])

    def tensor(self, name: str) -> TensorInfo:
        """The change as a tensor, computed while it is read."""
        if self.experts > 1:
            change: Change = Experts(self.a, self.b, self.scale, self.experts)
        else:
            change = LowRank(self.a, self.b, self.scale, self.kind == "embedding")
        return adapted(TensorInfo(name, Zeros(self.a.dtype, self.shape)), (change,))


@dataclass
class Adapter:
    """An adapter of a merge of adapters; names are those in the model that was trained."""

    opened: Checkpoint
    config: AdapterConfig
    changes: dict[str, Factors] = field(default_factory=dict)
    """By the name of the weight that is changed."""
    biases: dict[str, TensorInfo] = field(default_factory=dict)
    """Changes of biases that its layers add themselves, by the name of the module."""
    wholes: dict[str, TensorInfo] = field(default_factory=dict)
    """Tensors that were trained whole."""
    frozen: dict[str, TensorInfo] = field(default_factory=dict)
    """Weights of the base that lie in the file beside their changes."""

    @property
    def name(self) -> str:
        """The adapter as messages call it."""
        return self.opened.name


def read_adapter(opened: Checkpoint, scale: float) -> Adapter:
    """What an adapter changes, `scale` times.

    Raises:
        InputError: E250 for a damaged adapter, E251 for one whose changes are no products of two factors.
    """
    config = config_of(opened)
    _check_kind(config, opened.name)
    made = Adapter(opened, config)
    parts = parts_of(opened.tensors.values())
    problems = Collector()
    for error in faults.twice(opened.name, parts):
        problems.add(error)
    for module in modules(parts):
        with problems.collecting():
            _module(made, module, scale)
    others = [part for part in parts if part.use is Use.OTHER]
    if config.kind == "ADALORA":
        _with_singular_values(made, others, scale, problems)
    else:
        for part in others:
            problems.add(faults.not_read(opened.name, part))
    for part in parts:
        if part.use is Use.WHOLE:
            with problems.collecting():
                _whole(made, part, scale)
    problems.raise_any()
    if not made.changes:
        raise InputError("E250", "it changes no weight by factors", place=opened.name, hint=faults.COPY)
    return made


INSTEAD = "merge each adapter into its base with `mergecore merge-lora`, merge these, and use `mergecore extract-lora`"


def _check_kind(config: AdapterConfig, place: str) -> None:
    """Raise E251 for adapters whose change is no product of two factors."""
    reason = ""
    if config.kind == "VERA":
        reason = "it is a VeRA, whose files do not say how wide its layers are: all share one 'vera_A'"
    elif config.kind not in ("LORA", "ADALORA"):
        reason = f"it is of the kind {config.kind}, whose change is not B A"
    elif config.dora:
        reason = "it is a DoRA, whose change depends on the weights of its base and has no low rank"
    elif config.residual:
        reason = f"it began with '{config.residual}', so its change depends on the weights of its base"
    elif config.token_rows:
        reason = "it has tokens of their own ('trainable_token_indices'), which replace rows of the base"
    if reason:
        raise InputError("E251", f"cannot be merged into an adapter: {reason}", place=place, hint=INSTEAD)


def _with_singular_values(
    made: Adapter, parts: Sequence[AdapterTensor], scale: float, problems: Collector
) -> None:
    """The factors of AdaLoRA: the singular values go into A."""
    found: dict[str, dict[str, TensorInfo]] = {}
    for part in parts:
        found.setdefault(part.module, {})[part.word] = part.tensor
    for module, tensors in found.items():
        with problems.collecting():
            one = singular(module, tensors, made.config, made.name)
            if one is None:
                continue
            _check_numbers(made.name, one.a, one.b, one.e)
            a = adapted(one.a, (Multiplied(one.e, False),))
            stem = plain(one.a.name).rpartition(".lora_")[0]
            share = one.scale / one.divisor * scale
            made.changes[f"{module}.weight"] = Factors("linear", a, one.b, share, one.rank, stem)


def _check_numbers(place: str, *factors: TensorInfo) -> None:
    for one in factors:
        if not DTYPES[one.dtype].floating:
            what = f"'{one.name}' is {one.dtype}; factors are numbers of 16, 32 or 64 bits, floating-point"
            raise InputError("E233", what, place=place, tensor=one.name, hint=faults.COPY)


def _module(made: Adapter, module: AdapterModule, scale: float) -> None:
    place = made.name
    factors = factors_of(module, made.config, place)
    if factors is None:
        return
    a, b = factors
    _check_numbers(place, a, b)
    parameter = None if Use.EMBEDDING_A in module.tensors else parameter_of(made.config, module, place)
    if parameter is not None:
        experts = experts_in(made.config, parameter, a, b, place)
        share = made.config.scale_of(parameter) * scale
        rank = a.shape[0] // experts
        made.changes[parameter] = Factors("experts", a, b, share, rank, module.name, experts)
        return
    kind: FactorKind = "convolution" if len(a.shape) > 2 else "linear"
    if Use.EMBEDDING_A in module.tensors:
        kind = "embedding"
    rank = check_rank(made.config, module.name, a, b, place)
    share = made.config.scale_of(module.name) * scale
    stem = plain(a.name).rpartition(".lora_")[0]
    made.changes[f"{module.name}.weight"] = Factors(kind, a, b, share, rank, stem)
    if Use.B_BIAS in module.tensors:
        bias = module.tensors[Use.B_BIAS]
        nothing = TensorInfo(f"{module.name}.bias", Zeros(bias.dtype, bias.shape))
        made.biases[module.name] = adapted(nothing, (Added(bias, share),))


def _whole(made: Adapter, part: AdapterTensor, scale: float) -> None:
    tensor = replace(part.tensor, name=part.module)
    if part.module in made.changes:
        made.frozen[part.module] = tensor
        return
    if scale != 1:
        what = f"'{part.module}' was trained whole, and a scale of {scale:g} needs its base"
        raise InputError("E251", what, place=made.name, hint="leave the scale out, and set a weight")
    made.wholes[part.module] = tensor


def renamed(adapter: Adapter, names: Mapping[str, str]) -> Adapter:
    """The adapter with other names of weights and whole tensors, those that `names` has."""

    def each(found: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
        return {names.get(name, name): one for name, one in found.items()}

    biases = {
        names.get(f"{name}.weight", f"{name}.weight").removesuffix(".weight"): one
        for name, one in adapter.biases.items()
    }
    changes = {names.get(name, name): one for name, one in adapter.changes.items()}
    return replace(
        adapter, changes=changes, biases=biases, wholes=each(adapter.wholes), frozen=each(adapter.frozen)
    )
