"""What the names of an adapter's tensors mean: which module they belong to, and what they are for it.

Read `parts_of` first.  PEFT writes `base_model.model.MODULE.lora_A.weight`; older files and other trainers leave the
prefix out, or keep the adapter's own name (`lora_A.default.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from mergecore.types import TensorInfo


class Use(Enum):
    """What a tensor is for its module."""

    A = "lora_A"
    B = "lora_B"
    B_BIAS = "bias of lora_B"
    EMBEDDING_A = "lora_embedding_A"
    EMBEDDING_B = "lora_embedding_B"
    MAGNITUDE = "lora_magnitude_vector"
    TRAINED_ROWS = "trainable_tokens_delta"
    WHOLE = "a whole tensor"
    OTHER = "of another kind of adapter"


@dataclass(frozen=True)
class AdapterTensor:
    """A tensor of an adapter: its module (for a whole tensor, the name of that), and what it is for it.

    `depth` counts the adapters that wrap the module further in: several parameters of one module were trained.
    """

    module: str
    use: Use
    tensor: TensorInfo
    depth: int = 0
    word: str = ""
    """What another kind of adapter calls it, such as `hada_w1_a`."""


@dataclass
class AdapterModule:
    """The tensors of an adapter for one module."""

    name: str
    depth: int
    tensors: dict[Use, TensorInfo] = field(default_factory=dict)


def parts_of(tensors: Iterable[TensorInfo]) -> list[AdapterTensor]:
    """What each tensor of an adapter is.

    With trained biases PEFT writes the bias of a module that was saved whole under three names: twice, and as it was.
    """
    found = [_part(tensor) for tensor in tensors if not _OF_TRAINING.search(tensor.name)]
    again = {part.module for part in found if part.use is Use.WHOLE and _SAVED not in part.tensor.name}
    return [part for part in found if not again.intersection(_named_twice(part))]


_OF_TRAINING = re.compile(r"\.(original_module|lora_velora_\w+|lora_monteclora_\w+)(\.|$)")
"""What stands beside trained tensors and changes nothing: values from before, aids of VeLoRA and MonteCLoRA."""
_SAVED = ".modules_to_save."


def _named_twice(part: AdapterTensor) -> Iterator[str]:
    """Under which other names the file may hold a bias of a module that was saved whole.

    PEFT leaves the adapter's own name in that of a bias further in: `pooler.modules_to_save.default.dense.bias`.
    """
    outer, saved, inner = plain(part.tensor.name).partition(_SAVED)
    if saved and inner.rpartition(".")[2] == "bias":
        yield part.module
        yield f"{outer}.{inner.partition('.')[2] or inner}"


def modules(parts: Sequence[AdapterTensor]) -> Iterator[AdapterModule]:
    """The tensors that go together, one after the other; whole ones stand for themselves."""
    found: dict[tuple[str, int], AdapterModule] = {}
    for part in parts:
        if part.use not in (Use.WHOLE, Use.OTHER):
            module = found.setdefault((part.module, part.depth), AdapterModule(part.module, part.depth))
            module.tensors[part.use] = part.tensor
    return iter(found.values())


def plain(name: str) -> str:
    """A name without what PEFT and wrappers of training put before it."""
    while True:
        shorter = name
        for prefix in _PREFIXES:
            shorter = shorter.removeprefix(prefix)
        shorter = shorter.replace("._fsdp_wrapped_module.", ".").replace("._orig_mod.", ".")
        if shorter == name:
            return name
        name = shorter


def ends_with_module(module: str, parameter: str) -> bool:
    """Whether a parameter that was trained, by the end of its name, is one of that module."""
    inside, _, _ = parameter.rpartition(".")
    return not inside or f".{module}".endswith(f".{inside}")


def definition_order(parameter: str) -> int:
    """Where a parameter stands in its module: PEFT wraps them in that order."""
    last = parameter.rpartition(".")[2]
    return next((i for i, word in enumerate(("gate_up", "up", "gate", "down")) if last.startswith(word)), 9)


_PREFIXES = ("base_model.model.", "base_model.", "module.", "_orig_mod.", "_fsdp_wrapped_module.")


def _part(tensor: TensorInfo) -> AdapterTensor:
    name = plain(tensor.name)
    for pattern, use in _USES:
        if found := pattern.fullmatch(name):
            module, depth = _unwrapped(found["module"])
            return AdapterTensor(module, use, tensor, depth)
    if found := _SHARED.fullmatch(name):
        return AdapterTensor("", Use.OTHER, tensor, 0, found["word"])
    if found := _OTHER.fullmatch(name):
        module, depth = _unwrapped(found["module"])
        return AdapterTensor(module, Use.OTHER, tensor, depth, found["word"])
    return AdapterTensor(_WRAPPED_WHOLE.sub(".", name), Use.WHOLE, tensor)


def _unwrapped(module: str) -> tuple[str, int]:
    bare = module
    while bare.endswith(".base_layer"):
        bare = bare.removesuffix(".base_layer")
    return bare.replace(".base_layer.", "."), (len(module) - len(bare)) // len(".base_layer")


def _use(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<module>.+?)\.{text}")


_OWN_NAME = r"(\.[^.]+)?"
"""The name of the adapter, which files should not hold."""
_USES: tuple[tuple[re.Pattern[str], Use], ...] = (
    (_use(rf"lora_A{_OWN_NAME}\.weight"), Use.A),
    (_use(rf"lora_B{_OWN_NAME}\.weight"), Use.B),
    (_use(rf"lora_B{_OWN_NAME}\.bias"), Use.B_BIAS),
    (_use(rf"lora_embedding_A{_OWN_NAME}"), Use.EMBEDDING_A),
    (_use(rf"lora_embedding_B{_OWN_NAME}"), Use.EMBEDDING_B),
    (_use(rf"lora_magnitude_vector{_OWN_NAME}(\.weight)?"), Use.MAGNITUDE),
    (_use(rf"(token_adapter\.)?trainable_tokens_delta{_OWN_NAME}"), Use.TRAINED_ROWS),
)
_WRAPPED_WHOLE = re.compile(
    r"\.((modules_to_save|ln_tuning_layers)(\.(?!weight$|bias$)[^.]+(?=\.(weight|bias)$))?|base_layer(\.base_layer)*)\."
)
"""What stands between a module and its own tensors where the whole of it was trained."""
_SHARED = re.compile(r"(?P<word>vera_[AB])(\.[^.]+)?")
"""What all modules share."""
_OTHER = re.compile(
    r"(?P<module>.+)\.(?P<word>ia3_l|hada_\w+|lokr_\w+|oft_\w+|boft_\w+|vera_\w+|hra_u|fourierft_\w+|lora_\w+|"
    r"randlora_\w+|shira_\w+|bone_block|miss_block|c3a_kernel|road_\w+|delora_\w+|waveft_\w+|"
    r"vblora_\w+|gralora_\w+|deft_\w+|hira_\w+|peanut_\w+|psoft_\w+|osf_\w+|supertuning_\w+|glora_[A-E]\.\w+|beft_\w+|adamss_\w+)(\.[^.]+)?(\.weight)?"
)
