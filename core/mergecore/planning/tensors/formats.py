"""In which number format each tensor of the output is written; read `Formats.of`.

What the config asks for comes first, but for tensors that are in float32 on purpose among 16-bit ones, such as the
biases by which experts are chosen: they stay what they are unless the config insists.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from mergecore.config.grammar import MergeConfig
from mergecore.errors import some
from mergecore.files.dtypes import DTYPES, promoted
from mergecore.planning.opened import OpenedModels
from mergecore.types import Checkpoint, MovedRows, Step, TensorInput

SHORT = ("F16", "BF16")
WIDE = ("F32", "F64")


class Formats:
    """Chooses formats, and gathers what the user should know about the choice."""

    def __init__(
        self, config: MergeConfig, models: OpenedModels, keeps: Callable[[Checkpoint, str], Collection[str]]
    ) -> None:
        """keeps: the tensors of a checkpoint that its loader holds in float32 beside a 16-bit format."""
        self._wanted = config.out_dtype or config.dtype
        self._keep = config.keep_f32
        self._models = models
        self._ask = keeps
        counts = [_counts(one) for one in models.checkpoints]
        self._mixed = [_is_mixed(one, own) for one, own in zip(models.checkpoints, counts, strict=True)]
        self._main = [max(own, key=lambda name: own[name]) if own else "" for own in counts]
        self._held: dict[tuple[int, str], Collection[str]] = {}
        self._kept: dict[str, list[str]] = {}
        self._matched: set[str] = set()

    def of(self, name: str, role: str, inputs: Sequence[TensorInput]) -> str:
        """The format of an output tensor that is made of `inputs`, all of them with numbers."""
        stored = promoted(_formats(inputs))
        wanted, insisted = self._asked(name, role)
        if wanted is None:
            return stored
        if wanted not in SHORT or insisted or not self._keep or not self._is_kept(inputs, stored, wanted):
            return wanted
        self._kept.setdefault(wanted, []).append(name)
        return stored

    def notes(self, steps: Sequence[Step]) -> Iterator[str]:
        """What is unusual about the formats of the output."""
        for wanted, names in self._kept.items():
            count = "1 tensor stays" if len(names) == 1 else f"{len(names)} tensors stay"
            yield (
                f"{count} in float32, not {DTYPES[wanted].torch_name}, since the models or their loader keep "
                f"{'it' if len(names) == 1 else 'them'} so on purpose: {some(names, 2)}; "
                "'keep_f32: false' rounds them too"
            )
        if isinstance(self._wanted, tuple):
            for one, _ in self._wanted:
                if one.text != "*" and one.text not in self._matched:
                    yield f"dtype: '{one.text}' matches no tensor"
        if self._wanted is None:
            yield from self._several(steps)

    def _asked(self, name: str, role: str) -> tuple[str | None, bool]:
        """The format that the config wants for a tensor, and whether it names that very tensor."""
        if not isinstance(self._wanted, tuple):
            return self._wanted, False
        for one, dtype in self._wanted:
            if one.matches(name, role):
                self._matched.add(one.text)
                return dtype, one.text != "*"
        return None, False

    def _is_kept(self, inputs: Sequence[TensorInput], stored: str, wanted: str) -> bool:
        """Whether the models, or their loader, want more than 16 bits for a tensor."""
        if stored not in WIDE or not any(dtype in WIDE for dtype in _formats(inputs)):
            return False
        wide = all(dtype in WIDE for dtype in _formats(inputs))
        if wide and any(self._mixed[one.model] for one in inputs):
            return True
        return any(_anywhere(one.tensor.name) in self._holds(one.model, wanted) for one in inputs)

    def _holds(self, model: int, wanted: str) -> Collection[str]:
        """The tensors that the loader of a model holds in float32, without the numbers in their names."""
        key = (model, wanted)
        if key not in self._held:
            names = self._ask(self._models.checkpoints[model], wanted)
            self._held[key] = frozenset(_anywhere(name) for name in names)
        return self._held[key]

    def _several(self, steps: Sequence[Step]) -> Iterator[str]:
        """That inputs in several formats make an output in several, although none was asked for."""
        made: dict[str, list[str]] = {}
        read: set[str] = set()
        for step in steps:
            for output in (one for one in step.outputs if DTYPES[one.dtype].floating):
                made.setdefault(output.dtype, []).append(output.name)
                read.update(self._main[one.model] for one in step.operands)
        differ = any(len({one.tensor.dtype for one in step.inputs}) > 1 for step in steps)
        if len(made) > 1 and (differ or len(read) > 1):
            told = ", ".join(
                f"{len(names)} in {DTYPES[dtype].torch_name} ({some(names, 1)})"
                for dtype, names in made.items()
            )
            yield (
                f"the models are stored in several formats and the config has no 'dtype', so the tensors of the "
                f"output are, too: {told}; write for example 'dtype: bfloat16' to have one"
            )


def _formats(inputs: Sequence[TensorInput]) -> list[str]:
    """The formats that inputs are stored in, those of the rows that are moved to them included."""
    found = []
    for one in inputs:
        data = one.tensor.data
        found += [row.tensor.dtype for row in data.sources] if isinstance(data, MovedRows) else [data.dtype]
    return found


def _is_mixed(checkpoint: Checkpoint, counts: Counter[str]) -> bool:
    """Whether a checkpoint is 16-bit but for some tensors: its config says so, or most of its numbers are."""
    short = sum(counts[name] for name in SHORT)
    words = [checkpoint.config.get(key) for key in ("dtype", "torch_dtype")]
    named = any(str(word).removeprefix("torch.") in ("float16", "bfloat16") for word in words)
    return short > 0 and (named or short > sum(counts[name] for name in WIDE))


def _counts(checkpoint: Checkpoint) -> Counter[str]:
    """How many numbers of each format a checkpoint holds."""
    counts: Counter[str] = Counter()
    for one in checkpoint.tensors.values():
        if DTYPES[one.dtype].floating:
            counts[one.dtype] += one.count
    return counts


def _anywhere(name: str) -> str:
    return re.sub(r"\d+", "N", name)
