"""Which tensors of a base an adapter changes, and how; read `fit`.

An adapter names modules of the model that was trained.  They are looked for among the tensors of the base by their
own names, by names without the words that versions of transformers move about, and last by the layout of the loader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mergecore.errors import Collector, InputError
from mergecore.types import Json, TensorInfo
from mergecore_plugins.lora import faults
from mergecore_plugins.lora.changes import Added, Change, ReplacedRows, RowsOfChange, as_matrix
from mergecore_plugins.lora.config import AdapterConfig
from mergecore_plugins.lora.kinds.others import other_changes
from mergecore_plugins.lora.lookup import Lookup, holds_in_out, is_head, is_table
from mergecore_plugins.lora.low_rank import Experts, LowRank
from mergecore_plugins.lora.modules import check_rank, experts_in, factors_of, parameter_of
from mergecore_plugins.lora.names import AdapterModule, AdapterTensor, Use, modules
from mergecore_plugins.lora.wholes import Layout, placed


@dataclass(frozen=True)
class Fitted:
    """What an adapter does to a base."""

    changes: Mapping[str, tuple[Change, ...]]
    """By the names of the base's tensors; after `wholes`."""
    wholes: Mapping[str, TensorInfo]
    """Tensors that take the place of those of the base, or that it lacks."""
    copies: Mapping[str, str]
    """A head that was trained apart from the embeddings to which the base ties it: its name, and theirs."""
    notes: tuple[str, ...] = ()


def fit(
    parts: Sequence[AdapterTensor],
    config: AdapterConfig,
    base: Mapping[str, TensorInfo],
    base_config: Mapping[str, Json],
    layout: Layout,
    place: str,
) -> Fitted:
    """What the tensors of an adapter, `parts`, do to those of `base`.

    Raises:
        InputError: E250 for tensors that do not go together, E252 for what does not fit the base; all at once.
    """
    return _Fitter(config, base, base_config, layout, place).fit(parts)


class _Fitter:
    def __init__(
        self,
        config: AdapterConfig,
        base: Mapping[str, TensorInfo],
        base_config: Mapping[str, Json],
        layout: Layout,
        place: str,
    ) -> None:
        self._config, self._base, self._base_config = config, base, base_config
        self._layout, self._place = layout, place
        self._lookup = Lookup(base, base_config)
        self._changes: dict[str, list[Change]] = {}
        self._wholes: dict[str, TensorInfo] = {}
        self._copies: dict[str, str] = {}
        self._notes: list[str] = []
        self._absent: list[str] = []
        self._unplaced: list[AdapterTensor] = []
        self._fused: list[tuple[str, tuple[int, ...], Change]] = []

    def fit(self, parts: Sequence[AdapterTensor]) -> Fitted:
        problems = Collector()
        for error in (*faults.twice(self._place, parts), *faults.not_numbers(self._place, parts)):
            problems.add(error)
        for part in parts:
            if part.use is Use.WHOLE:
                with problems.collecting():
                    self._whole(part)
        with problems.collecting():
            self._others([part for part in parts if part.use is Use.OTHER])
        self._place_wholes()
        for module in modules(parts):
            with problems.collecting():
                self._module(module)
        with problems.collecting():
            self._place_fused()
        if self._absent:
            problems.add(faults.unknown(self._place, self._config.base, self._absent))
        problems.raise_any()
        self._keep_head()
        self._check_tables()
        if apart := [name for name in self._copies if is_table(name) and not is_head(name)]:
            self._notes.append(faults.apart(apart))
        changes = {name: tuple(found) for name, found in self._changes.items()}
        return Fitted(changes, self._wholes, self._copies, tuple(self._notes))

    # ---- whole tensors ----

    def _whole(self, part: AdapterTensor) -> None:
        name = self._lookup.find(part.module)
        shared = None if name else self._lookup.shared(part.module)
        if name is None and shared is None and not is_head(part.module):
            self._unplaced.append(part)
            return
        name, stored = shared or (name or part.module,) * 2
        there = self._base.get(stored)
        if there and there.shape != part.tensor.shape and not self._may_resize(there, part.tensor):
            raise faults.misfit(self._place, self._config.base, name, part.tensor.shape, there.shape)
        self._wholes[name] = replace(part.tensor, name=name)

    def _place_wholes(self) -> None:
        """Put whole tensors where the base stores them; what it has nowhere is new, if it was meant to be saved."""
        found, used = placed(self._unplaced, self._layout, self._base)
        self._wholes |= found
        for part in (one for one in self._unplaced if one.module not in used):
            if self._is_saved(part.module):
                self._notes.append(f"'{part.module}' is not in the base; the adapter brings it")
                self._wholes[part.module] = replace(part.tensor, name=part.module)
            else:
                self._absent.append(part.module)

    def _is_saved(self, name: str) -> bool:
        module = name.rpartition(".")[0]
        return any(f".{one}." in f".{module}." for one in self._config.modules_to_save)

    def _may_resize(self, there: TensorInfo, trained: TensorInfo) -> bool:
        """Whether a table of tokens was given other rows while it was trained."""
        return there.shape[1:] == trained.shape[1:] and is_table(there.name)

    # ---- other kinds ----

    def _others(self, parts: Sequence[AdapterTensor]) -> None:
        def find(name: str) -> tuple[str, TensorInfo] | None:
            found = self._name(name)
            return (found, self._there(found)) if found else None

        others = other_changes(parts, self._config, self._base_config, find, self._place)
        for name, change in others.changes:
            self._add(name, change)
        self._absent += others.absent

    # ---- low rank ----

    def _module(self, module: AdapterModule) -> None:
        found = module.tensors
        if Use.TRAINED_ROWS in found:
            self._token_rows(module)
        factors = factors_of(module, self._config, self._place)
        if factors is None:
            return
        if Use.EMBEDDING_A in found:
            self._embedding(module, *factors)
        else:
            self._linear(module, *factors)
        if Use.B_BIAS in found:
            self._bias(module, found[Use.B_BIAS])

    def _embedding(self, module: AdapterModule, a: TensorInfo, b: TensorInfo) -> None:
        name = self._name(f"{module.name}.weight")
        if name is None:
            self._absent.append(f"{module.name}.weight")
            return
        there = self._there(name)
        rank = check_rank(self._config, module.name, a, b, self._place)
        if (a.shape[1], b.shape[0]) != there.shape:
            raise faults.misfit(self._place, self._config.base, name, (a.shape[1], b.shape[0]), there.shape)
        self._add(name, LowRank(a, b, self._scale(module.name), True, *self._variant(module), rank))

    def _linear(self, module: AdapterModule, a: TensorInfo, b: TensorInfo) -> None:
        parameter = parameter_of(self._config, module, self._place)
        if parameter is not None:
            self._parameter_change(parameter, module, a, b)
            return
        runtime = f"{module.name}.weight"
        name = self._name(runtime) or self._name(f"{module.name}.in_proj_weight")
        if name and (groups := faults.groups_of(self._there(name).shape, a.shape, b.shape)) > 1:
            raise faults.grouped(self._place, name, groups)
        rank = check_rank(self._config, module.name, a, b, self._place)
        change = LowRank(a, b, self._scale(module.name), False, *self._variant(module), rank)
        trained = (b.shape[0], *a.shape[1:])
        if name is None:
            self._fused.append((runtime, trained, change))
            return
        there = self._there(name)
        transposed = self._is_transposed(module.name, there.shape, trained)
        if as_matrix(there.shape) != as_matrix(trained[::-1] if transposed else trained):
            raise faults.misfit(self._place, self._config.base, name, trained, there.shape)
        self._add(name, replace(change, transposed=transposed))

    def _is_transposed(self, module: str, there: tuple[int, ...], trained: tuple[int, ...]) -> bool:
        """Whether the base holds a weight as (in, out), as the layers of GPT-2 do."""
        if len(there) != 2 or len(trained) != 2:
            return False
        if there != there[::-1]:
            return there == trained[::-1]
        return holds_in_out(self._base_config, module, self._config.fan_in_fan_out)

    def _variant(self, module: AdapterModule) -> tuple[TensorInfo | None, str | None]:
        return module.tensors.get(Use.MAGNITUDE), self._config.residual

    def _bias(self, module: AdapterModule, tensor: TensorInfo) -> None:
        name = self._name(f"{module.name}.bias")
        if name is None:
            what = f"the trained bias of '{module.name}' has no place: the base has no bias there"
            raise InputError("E252", what, place=self._place, hint="leave 'lora_bias' out when you train")
        if self._there(name).shape != tensor.shape:
            raise faults.misfit(self._place, self._config.base, name, tensor.shape, self._there(name).shape)
        self._add(name, Added(tensor, self._scale(module.name)))

    def _token_rows(self, module: AdapterModule) -> None:
        trained = module.tensors[Use.TRAINED_ROWS]
        places = next(
            (
                rows
                for name, rows in self._config.token_rows.items()
                if f".{module.name}".endswith(f".{name}")
            ),
            (),
        )
        name = self._name(f"{module.name}.weight")
        if name is None:
            self._absent.append(f"{module.name}.weight")
            return
        there = self._there(name)
        if trained.shape != (len(places), *there.shape[1:]):
            named = f"'trainable_token_indices' names {len(places)} rows"
            what = f"'{module.name}': {list(trained.shape)} were trained, and {named}"
            raise InputError("E250", what, place=self._place)
        if places and max(places) >= there.shape[0]:
            raise faults.misfit(
                self._place, self._config.base, name, (max(places) + 1, *there.shape[1:]), there.shape
            )
        self._add(name, ReplacedRows(trained, places))

    # ---- parameters that are no modules ----

    def _parameter_change(self, parameter: str, module: AdapterModule, a: TensorInfo, b: TensorInfo) -> None:
        scale = self._scale(parameter)
        experts = experts_in(self._config, parameter, a, b, self._place)
        name = self._name(parameter)
        if experts == 1:
            change: Change = LowRank(a, b, scale)
            trained: tuple[int, ...] = (b.shape[0], a.shape[1])
        else:
            change = Experts(a, b, scale, experts)
            trained = (experts, b.shape[0], a.shape[1])
        if name is None:
            self._fused.append((parameter, trained, change))
            return
        there = self._there(name).shape
        turned = (*trained[:-2], trained[-1], trained[-2])
        if there not in (trained, turned):
            raise faults.misfit(self._place, self._config.base, name, trained, there)
        if isinstance(change, Experts):
            change = replace(
                change, transposed=there != trained or (trained == turned and self._holds_in_out())
            )
        self._add(name, change)

    def _holds_in_out(self) -> bool:
        """Whether a family stores its experts as (experts, in, out)."""
        return str(self._base_config.get("model_type", "")).startswith(("gpt_oss", "llama4"))

    def _check_tables(self) -> None:
        """Raise E252 when a table of tokens was given other rows, and another table was not."""
        resized = {
            name: one
            for name, one in self._wholes.items()
            if name in self._base and one.shape != self._base[name].shape
        }
        for name, one in resized.items():
            for other in (*self._base, *self._copies):
                if is_table(other) and self._there(other).shape[0] != one.shape[0]:
                    raise faults.misfit(
                        self._place, self._config.base, name, one.shape, self._there(other).shape
                    )

    # ---- tensors that the loader puts together ----

    def _place_fused(self) -> None:
        if not self._fused:
            return
        pieces = self._layout({name: shape for name, shape, _ in self._fused})
        changes = {name: (shape, change) for name, shape, change in self._fused}
        found: set[str] = set()
        for stored, runs in pieces.items():
            for at, name, start, count in runs:
                if name in changes and stored in self._base:
                    self._add(stored, self._part(stored, at, start, count, *changes[name]))
                    found.add(name)
        self._absent += [name for name in changes if name not in found]

    def _part(
        self, stored: str, at: int, start: int, count: int, whole: tuple[int, ...], change: Change
    ) -> Change:
        there = self._base[stored]
        columns = change.matrix(whole)[1]
        aligned = at == 0 and count == there.count and start % columns == 0 and there.shape[-1] == columns
        simple = isinstance(change, Experts) or (isinstance(change, LowRank) and not change.residual)
        if not aligned or not simple:
            what = f"'{stored}' is not stored as it was when the adapter was trained, and the change cannot be cut"
            raise InputError("E251", what, place=self._place, hint="merge it with PEFT, and name the result")
        return RowsOfChange(change, whole, start // columns)

    # ---- tied heads ----

    def _name(self, name: str) -> str | None:
        """The name, in the result, of a tensor of the model that was trained; None where the base has none."""
        if name in self._copies or name in self._wholes:
            return name
        found = self._lookup.find(name)
        if found is None and is_head(name) and self._lookup.head:
            self._untie(name)
            return name
        if found is None and (one_of_many := self._lookup.shared(name)):
            self._copies[one_of_many[0]] = one_of_many[1]
            return one_of_many[0]
        return found

    def _untie(self, head: str) -> None:
        """Give the head a weight of its own; its bias is tied too where that lies beside it."""
        self._copies[head] = str(self._lookup.embeddings)
        bias = self._lookup.bias_of(head)
        if bias:
            self._copies[head.removesuffix("weight") + "bias"] = bias

    def _there(self, name: str) -> TensorInfo:
        """What is changed under that name."""
        if name in self._wholes:
            return self._wholes[name]
        return self._base[self._copies.get(name, name)]

    def _keep_head(self) -> None:
        """Keep the head as it was, where the embeddings that it is tied to were trained without it."""
        embeddings, head = self._lookup.embeddings, self._lookup.head
        if not head or self._config.tied or any(is_head(name) for name in (*self._copies, *self._wholes)):
            return
        trained = any(not isinstance(one, ReplacedRows) for one in self._changes.get(str(embeddings), ()))
        resized = (
            embeddings in self._wholes and self._wholes[embeddings].shape != self._base[embeddings].shape
        )
        if (trained or embeddings in self._wholes) and not resized:
            self._untie(head)
            self._notes.append(
                "the head keeps the embeddings of the base, which were trained without it: untied"
            )

    def _scale(self, module: str) -> float:
        return self._config.scale_of(module)

    def _add(self, name: str, change: Change) -> None:
        self._changes.setdefault(name, []).append(change)
