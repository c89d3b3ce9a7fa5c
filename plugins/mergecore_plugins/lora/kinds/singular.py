"""AdaLoRA, arXiv:2303.10512: two factors and the singular values between them; read `singular`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergecore.errors import InputError
from mergecore.types import TensorInfo
from mergecore_plugins.lora import faults
from mergecore_plugins.lora.config import AdapterConfig


@dataclass(frozen=True)
class Singular:
    """The change `B diag(E) A · scale / divisor`."""

    a: TensorInfo
    b: TensorInfo
    e: TensorInfo
    scale: float
    divisor: float

    @property
    def rank(self) -> int:
        """The singular values that are left of those that training began with."""
        return self.e.count


def singular(
    module: str, tensors: Mapping[str, TensorInfo], config: AdapterConfig, place: str
) -> Singular | None:
    """What AdaLoRA has for a module; None where no singular value is left.

    Raises:
        InputError: E250 for tensors that do not go together.
    """
    a, b, e = needed(module, tensors, config, place, "lora_A", "lora_B", "lora_E")
    if e.count == 0:
        return None
    for word, one, shape in (
        ("lora_A", a, (e.count, *(a.shape[1:2] or (1,)))),
        ("lora_B", b, (*(b.shape[:1] or (1,)), e.count)),
    ):
        check_shape(module, word, one, shape, place)
    scale = config.alpha if config.alpha > 0 else float(e.count)
    return Singular(a, b, e, scale, config.rank + 1e-5)


def needed(
    module: str, tensors: Mapping[str, TensorInfo], config: AdapterConfig, place: str, *words: str
) -> list[TensorInfo]:
    """The tensors of a module that are called so, of which all must be there and no others.

    Raises:
        InputError: E250 where that is not so.
    """
    for word in words:
        if word not in tensors:
            raise InputError("E250", f"'{module}' has no {word}", place=place, hint=faults.COPY)
    for word in tensors.keys() - set(words):
        what = f"'{tensors[word].name}' does not belong to an adapter of the kind {config.kind}"
        raise InputError("E250", what, place=place, hint=faults.COPY)
    return [tensors[word] for word in words]


def check_shape(module: str, word: str, tensor: TensorInfo, shape: tuple[int, ...], place: str) -> None:
    """Raise E250 for a tensor of another shape."""
    if tensor.shape != shape:
        what = f"'{module}': {word} has the shape {list(tensor.shape)}, expected {list(shape)}"
        raise InputError("E250", what, place=place, hint=faults.COPY)
