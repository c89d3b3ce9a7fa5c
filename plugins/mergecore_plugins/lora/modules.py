"""What the tensors of one module are together: its two factors, and which parameter they change."""

from __future__ import annotations

from collections.abc import Iterable

from mergecore.errors import InputError
from mergecore.types import TensorInfo
from mergecore_plugins.lora import faults
from mergecore_plugins.lora.config import AdapterConfig
from mergecore_plugins.lora.names import AdapterModule, Use, definition_order, ends_with_module


def factors_of(
    module: AdapterModule, config: AdapterConfig, place: str
) -> tuple[TensorInfo, TensorInfo] | None:
    """A and B of a module, those of an embedding included; None where it has none, as for tokens that were trained.

    Raises:
        InputError: E250 where a tensor is not there without which the others mean nothing.
    """
    found = module.tensors
    embedding = Use.EMBEDDING_A in found or Use.EMBEDDING_B in found
    pair = (Use.EMBEDDING_A, Use.EMBEDDING_B) if embedding else (Use.A, Use.B)
    present = [use for use in pair if use in found]
    if not present:
        if Use.MAGNITUDE in found or Use.B_BIAS in found:
            raise faults.lacks(place, module.name, pair[0])
        return None
    if len(present) == 1:
        raise faults.lacks(place, module.name, next(use for use in pair if use not in found))
    if config.dora and Use.MAGNITUDE not in found:
        raise faults.lacks(place, module.name, Use.MAGNITUDE)
    if Use.MAGNITUDE in found and not config.dora:
        what = f"'{module.name}' has a {Use.MAGNITUDE.value}, and 'use_dora' is not set"
        raise InputError("E250", what, place=place)
    return found[pair[0]], found[pair[1]]


def check_rank(config: AdapterConfig, module: str, a: TensorInfo, b: TensorInfo, place: str) -> int:
    """The rank of a module, which its factors must have.

    Raises:
        InputError: E250 where they have another.
    """
    rank = config.rank_of(module)
    if a.shape[:1] != (rank,) or b.shape[1:2] != (rank,) or any(size != 1 for size in b.shape[2:]):
        raise faults.wrong_rank(module, a, b, rank, place)
    return rank


def parameter_of(config: AdapterConfig, module: AdapterModule, place: str) -> str | None:
    """The parameter of the module that was trained, by its name in the model; None for that of a layer.

    Raises:
        InputError: E250 where more adapters are wrapped around the module than the config names parameters.
    """
    wanted = [one for one in config.target_parameters if ends_with_module(module.name, one)]
    names = in_order(f"{module.name}.{one.rpartition('.')[2]}" for one in wanted)
    if not names:
        return None
    if module.depth >= len(names):
        what = f"'{module.name}' has more adapters than 'target_parameters' names"
        raise InputError("E250", what, place=place)
    return names[len(names) - 1 - module.depth]


def experts_in(config: AdapterConfig, parameter: str, a: TensorInfo, b: TensorInfo, place: str) -> int:
    """How many experts the factors of a parameter hold side by side.

    Raises:
        InputError: E250 where they are of another rank than the config says.
    """
    rank = config.rank_of(parameter)
    if a.shape[0] != b.shape[1] or a.shape[0] % rank:
        raise faults.wrong_rank(parameter, a, b, rank, place)
    return a.shape[0] // rank


def in_order(parameters: Iterable[str]) -> list[str]:
    """Parameters of one module in the order in which PEFT wraps them; the last is the outermost."""
    return sorted(parameters, key=definition_order)
