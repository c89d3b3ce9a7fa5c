"""Kinds of adapters beside LoRA: which tensors of the base each changes, and how; read `other_changes`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mergecore.errors import Collector, InputError
from mergecore.types import Json, TensorInfo
from mergecore_plugins.lora import faults
from mergecore_plugins.lora.changes import Change
from mergecore_plugins.lora.config import MERGE_WITH_PEFT, AdapterConfig
from mergecore_plugins.lora.kinds import defined
from mergecore_plugins.lora.kinds.defined import Defined, Layer
from mergecore_plugins.lora.kinds.factored import Factored, Multiplied
from mergecore_plugins.lora.kinds.singular import check_shape, needed, singular
from mergecore_plugins.lora.lookup import holds_in_out, is_head, is_table
from mergecore_plugins.lora.names import AdapterTensor

Find = Callable[[str], "tuple[str, TensorInfo] | None"]
"""A tensor by its name in the model: its name in the result, and what the base has there."""


@dataclass(frozen=True)
class Others:
    """What an adapter of another kind does."""

    changes: Sequence[tuple[str, Change]]
    absent: Sequence[str]
    """Tensors that the base lacks."""


def other_changes(
    parts: Sequence[AdapterTensor],
    config: AdapterConfig,
    base_config: Mapping[str, Json],
    find: Find,
    place: str,
) -> Others:
    """The changes that `parts`, tensors of another kind than LoRA, stand for.

    Raises:
        InputError: E250 for tensors that do not go together, E251 for such as no change is known of, E252 for what
            does not fit the base; all at once.
    """
    return _Kinds(config, base_config, find, place).changes(parts)


@dataclass
class _Kinds:
    config: AdapterConfig
    base_config: Mapping[str, Json]
    find: Find
    place: str
    found: list[tuple[str, Change]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    shared: dict[str, TensorInfo] = field(default_factory=dict)

    def changes(self, parts: Sequence[AdapterTensor]) -> Others:
        problems = Collector()
        modules: dict[str, dict[str, TensorInfo]] = {}
        for part in parts:
            (modules.setdefault(part.module, {}) if part.module else self.shared)[part.word] = part.tensor
        make = _MADE.get(self.config.kind)
        if make is None:
            for part in parts:
                problems.add(faults.not_read(self.place, part))
            modules = {}
        for module, tensors in modules.items():
            with problems.collecting():
                if there := self._weight(module):
                    assert make is not None
                    make(self, module, tensors, *there)
        problems.raise_any()
        return Others(self.found, self.absent)

    def _weight(self, module: str) -> tuple[str, TensorInfo] | None:
        there = self.find(f"{module}.weight")
        if there is None:
            self.absent.append(f"{module}.weight")
        return there

    # ---- factors ----

    def adalora(self, module: str, tensors: dict[str, TensorInfo], name: str, there: TensorInfo) -> None:
        one = singular(module, tensors, self.config, self.place)
        if one is None:
            return
        transposed = self._in_out(module)
        out, into = there.shape[:: -1 if transposed else 1] if len(there.shape) == 2 else (0, 0)
        if one.a.shape[1:] != (into,) or one.b.shape[:1] != (out,):
            raise self._misfit(name, (*one.b.shape[:1], *one.a.shape[1:]), there)
        change = Factored(one.a, one.b, one.e, None, one.scale, one.divisor, transposed)
        self.found.append((name, change))

    def vera(self, module: str, tensors: dict[str, TensorInfo], name: str, there: TensorInfo) -> None:
        if not {"vera_A", "vera_B"} <= self.shared.keys():
            what = "VERA without 'vera_A' and 'vera_B' cannot be merged: its projections were not saved"
            raise InputError("E251", what, place=self.place, hint="save it with 'save_projection: true'")
        a, b = self.shared["vera_A"], self.shared["vera_B"]
        d, rows = self._needed(module, tensors, "vera_lambda_d", "vera_lambda_b")
        transposed = self._in_out(module)
        out, into = there.shape[:: -1 if transposed else 1] if len(there.shape) == 2 else (0, 0)
        if rows.shape != (out,):
            raise self._misfit(name, (*rows.shape, *a.shape[1:]), there)
        self._check(module, "vera_lambda_d", d, a.shape[:1])
        if len(a.shape) != 2 or len(b.shape) != 2 or b.shape[1] != a.shape[0]:
            what = f"'vera_A' {list(a.shape)} and 'vera_B' {list(b.shape)} do not go together"
            raise InputError("E250", what, place=self.place, hint=faults.COPY)
        if a.shape[1] < into or b.shape[0] < out:
            raise self._misfit(name, (b.shape[0], a.shape[1]), there)
        self.found.append((name, Factored(a, b, d, rows, transposed=transposed)))

    # ---- vectors ----

    def ia3(self, module: str, tensors: dict[str, TensorInfo], name: str, there: TensorInfo) -> None:
        (vector,) = self._needed(module, tensors, "ia3_l")
        shape = there.shape
        if len(shape) < 2 or (is_table(name) and not is_head(name)):
            raise self._unfit(module)
        axes = (1, 0) if self._in_out(module) else (0, 1)
        sizes = shape[axes[0]], shape[axes[1]]
        long = [size for size in vector.shape if size != 1]
        at_input = vector.shape[:1] == (1,) and vector.shape[1:2] == (sizes[1],)
        if len(shape) == 2 and not at_input:
            at_input = vector.shape != (sizes[0], 1)
        elif len(shape) > 2:
            at_input = self._feeds_forward(module)
        if long not in ([sizes[at_input]], []) or vector.count != sizes[at_input]:
            raise self._misfit(name, tuple(vector.shape), there)
        self.found.append((name, Multiplied(vector, axes[at_input] == 1)))
        bias = self.find(f"{module}.bias")
        if bias and not at_input:
            self.found.append((bias[0], Multiplied(vector, False)))

    def _feeds_forward(self, module: str) -> bool:
        named = self.config.raw.get("feedforward_modules")
        listed = named if isinstance(named, list) else [named]
        return any(f".{module}".endswith(f".{one}") for one in listed)

    # ---- by PEFT ----

    def defined(self, module: str, tensors: dict[str, TensorInfo], name: str, there: TensorInfo) -> None:
        bias = self.find(f"{module}.bias")
        if bias and self.config.kind == "GLORA":
            what = (
                f"GLORA on '{module}', which has a bias, is not supported: the new bias depends on the weight"
            )
            raise InputError("E251", what, place=self.place, hint=MERGE_WITH_PEFT)
        layer = Layer(module, self._form(module, name, there), there.shape, bias is not None)
        config = {key: one for key, one in self.config.raw.items() if key not in defined.OF_A_MODEL}
        words = tuple((word, one) for word, one in sorted(tensors.items()))
        change = Defined(json.dumps(config, sort_keys=True), layer, words)
        defined.check(change, config, self.place)
        self.found.append((name, change))
        if bias and self.config.kind in defined.WITH_BIAS:
            self.found.append((bias[0], Defined(change.config, layer, words, "bias")))

    def _form(self, module: str, name: str, there: TensorInfo) -> str:
        axes = len(there.shape)
        if not 2 <= axes <= 5:
            raise self._unfit(module)
        if axes > 2:
            return str(axes - 2)
        if is_table(name) and not is_head(name):
            return "embedding"
        return "conv1d" if self._in_out(module) else "linear"

    # ---- checks ----

    def _in_out(self, module: str) -> bool:
        """Whether the base holds the weight as (in, out)."""
        return holds_in_out(self.base_config, module, self.config.fan_in_fan_out)

    def _needed(self, module: str, tensors: dict[str, TensorInfo], *words: str) -> list[TensorInfo]:
        return needed(module, tensors, self.config, self.place, *words)

    def _check(self, module: str, word: str, tensor: TensorInfo, shape: tuple[int, ...]) -> None:
        check_shape(module, word, tensor, shape, self.place)

    def _misfit(self, name: str, trained: tuple[int, ...], there: TensorInfo) -> InputError:
        return faults.misfit(self.place, self.config.base, name, trained, there.shape)

    def _unfit(self, module: str) -> InputError:
        what = f"{self.config.kind} on '{module}' is not supported: no layer of its form is known"
        return InputError("E251", what, place=self.place, hint=MERGE_WITH_PEFT)


_Make = Callable[[_Kinds, str, dict[str, TensorInfo], str, TensorInfo], None]
_MADE: Mapping[str, _Make] = {
    "ADALORA": _Kinds.adalora,
    "IA3": _Kinds.ia3,
    "VERA": _Kinds.vera,
    **dict.fromkeys(defined.KINDS, _Kinds.defined),
}
