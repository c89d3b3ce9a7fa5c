"""Leaves experts of a mixture out, and brings the others into another order; read `plan_pick`.

Experts are found by the names of their tensors, or by the axis of those that hold all of them.  The rows of routers,
and what else has a number for each expert, follow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mergecore import Document
from mergecore.errors import ConfigError, InputError, counted, some
from mergecore.types import (
    Checkpoint,
    Description,
    Joined,
    Json,
    OutputTensor,
    Plan,
    Planner,
    Segment,
    Step,
    TensorInfo,
    TensorInput,
)
from mergecore_plugins.moe.document import Pick, PickDocument

_ONE = re.compile(r"(.*\bexperts\.)(\d+)(\..*)", re.DOTALL)
"""The tensor of one expert: what comes before its number, the number, and the rest."""

_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_layer")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts", "top_k")
_GROUPS = ("n_group", "topk_group")


def plan_pick(document: Document, planner: Planner) -> Plan:
    """The plan of a mixture with fewer experts.

    Raises:
        MergecoreError: what is wrong with the document or the model.
    """
    asked = planner.read_document(PickDocument).pick_experts
    model = planner.open(asked.model, ("pick_experts", "model"))
    description = planner.describe(model)
    count = _count(model, description)
    kept = _kept(asked, count, document)
    steps = [*_steps(model, description, count, kept)]
    completed = planner.completed(model) or model.config
    chosen = _per_token(asked, model, completed, len(kept), document)
    groups = _groups(model, completed, count, kept)
    files = planner.side_files(
        (model,),
        steps,
        made_by="pick_experts",
        config=_config(count, kept, asked.experts_per_token, groups),
        title="Mixture with fewer experts",
        summary=f"mergecore took {len(kept)} of the {count} experts of {{0}}, and left the others out.",
        card={"tags": ["mergecore", "merge", "moe"]},
    )
    told = [chosen] if chosen else []
    plan = planner.plan(
        (model,),
        steps,
        files,
        unused={0: "of an expert that is left out"},
        warnings=told,
        doing=f"taking {len(kept)} of {counted(count, 'expert')}",
    )
    return replace(plan, decided=_decided(model, kept, asked))


def _decided(model: Checkpoint, kept: Sequence[int], asked: Pick) -> dict[str, Json]:
    seen: dict[str, Json] = {}
    if before := _chosen(model.config):
        seen["experts_per_token"] = min(asked.experts_per_token or max(before), len(kept))
    return {"experts": len(kept), "kept": [*kept], **seen}


# ---- which experts -----------------------------------------------------------------------------------------


def _count(model: Checkpoint, description: Description) -> int:
    """The number of experts of each layer that has any."""
    numbers: dict[str, set[int]] = {}
    for name in model.tensors:
        if parts := _ONE.fullmatch(name):
            numbers.setdefault(parts[1], set()).add(int(parts[2]))
    counts = {max(found) + 1 for found in numbers.values()}
    if any(len(found) <= max(found) for found in numbers.values()) or len(counts) > 1:
        what = "not all of its layers have the same experts"
        raise InputError(
            "E222", what, place=model.name, hint="choose among the experts of a model where they have"
        )
    stated = {one for _, value in _values(model.config, _COUNTS) for one in _whole_numbers(value)}
    if counts:
        return _as_stated(counts.pop(), stated, model)
    stacked = [
        model.tensors[name].shape
        for name, facts in description.tensors.items()
        if facts.role.startswith("expert") and model.tensors[name].shape
    ]
    found = {shape[0] for shape in stacked} & stated
    if len(found) != 1:
        what = (
            "no experts are found in it"
            if not stacked
            else "it is not known where its experts lie in its tensors"
        )
        raise InputError(
            "E222", what, place=model.name, hint="name a model with a router and experts in its layers"
        )
    return found.pop()


def _as_stated(count: int, stated: Collection[int], model: Checkpoint) -> int:
    """The number of experts that the tensors have.

    Raises:
        InputError: E222 when config.json says another one, or none by a key that is known and would be changed.
    """
    if count not in stated:
        said = f"says {some([str(one) for one in sorted(stated)], mark='')}" if stated else "does not say so"
        what = f"its layers have {count} experts, and its config.json {said}"
        hint = f"write the right number there, as {', '.join(_COUNTS[:-1])} or {_COUNTS[-1]}"
        raise InputError("E222", what, place=model.name, hint=hint)
    return count


def _whole_numbers(value: Json) -> Iterator[int]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, int) and not isinstance(one, bool):
            yield one


def _kept(asked: Pick, count: int, document: Document) -> list[int]:
    """The numbers of the experts that are left, in their new order."""
    place, key = document.place, "drop" if asked.keep is None else "keep"
    if (asked.keep is None) == (asked.drop is None):
        what = "either 'keep' or 'drop' is expected, and one of them only"
        raise ConfigError(
            "E105", what, place=place(("pick_experts",)), hint="list numbers of experts, from 0"
        )
    numbers = (asked.drop if asked.keep is None else asked.keep) or ()
    wrong = [str(one) for one in numbers if one >= count]
    if wrong or len(set(numbers)) < len(numbers):
        what = (
            f"there is no expert {some(wrong, 3)}: the experts are 0 to {count - 1}"
            if wrong
            else f"'{key}' lists an expert twice"
        )
        raise ConfigError(
            "E105", what, place=place(("pick_experts", key)), hint="the first expert is 0; list each once"
        )
    kept = [*numbers] if asked.keep is not None else [one for one in range(count) if one not in numbers]
    if not kept:
        raise ConfigError(
            "E105", "no expert is left", place=place(("pick_experts", key)), hint="keep one at least"
        )
    return kept


def _chosen(config: Mapping[str, Json]) -> list[int]:
    """How many experts each token sees, wherever a config says it."""
    return [one for _, value in _values(config, _CHOSEN) for one in _whole_numbers(value)]


def _per_token(
    asked: Pick, model: Checkpoint, completed: Mapping[str, Json], left: int, document: Document
) -> str | None:
    """What to say of a model whose tokens see fewer experts than before.

    completed: the config with what the class of the model takes for what is not said.

    Raises:
        ConfigError: E105 when more are asked for than there are, or too few are left.
        InputError: E222 when the number would change, and config.json has no key for it.
    """
    wanted = asked.experts_per_token
    if wanted is not None and wanted > left:
        what = f"experts_per_token is {wanted}, and {left} experts are left"
        place = document.place(("pick_experts", "experts_per_token"))
        raise ConfigError("E105", what, place=place, hint="let each token see fewer")
    if left < 2 and [*_values(model.config, _GROUPS)]:
        what = "its routers add up the two best experts of a group, so two at least must be left"
        raise ConfigError("E105", what, place=document.place(("pick_experts",)), hint="keep two at least")
    before = _chosen(model.config)
    if not before and (wanted is not None or max(_chosen(completed), default=0) > left):
        what = "its config.json does not say how many experts each token sees"
        hint = f"write the number there, as {', '.join(_CHOSEN[:-1])} or {_CHOSEN[-1]}"
        raise InputError("E222", what, place=model.name, hint=hint)
    if wanted is None and before and max(before) > left:
        return f"each token saw {max(before)} experts, and sees {left} now: no more are left"
    return None


def _groups(model: Checkpoint, completed: Mapping[str, Json], count: int, kept: Sequence[int]) -> int | None:
    """How many groups of experts are left, where routers choose groups first; None where they do not.

    completed: the config with what the class of the model takes for what is not said.

    Raises:
        InputError: E222 where a group is taken apart, or config.json does not say that there are groups.
    """
    before = next((one for key, one in _values(completed, _GROUPS) if key == "n_group"), None)
    if not isinstance(before, int) or before < 2:
        return None
    if len({key for key, _ in _values(model.config, _GROUPS)}) < len(_GROUPS):
        what = f"its class chooses among {before} groups of experts, of which its config.json says nothing"
        raise InputError("E222", what, place=model.name, hint=f"write {' and '.join(_GROUPS)} there")
    size = max(1, count // before)
    parts = [sorted(kept[at : at + size]) for at in range(0, len(kept), size)]
    if any(len(one) < size or one[0] % size or one[-1] - one[0] >= size for one in parts):
        what = f"its routers choose among {before} groups of {size} experts first, and these would not stay the same"
        hint = f"take whole groups, one after the other, such as 0-{size - 1}"
        raise InputError("E222", what, place=model.name, hint=hint)
    return len(parts)


def _values(config: Mapping[str, Json], keys: Sequence[str]) -> Iterator[tuple[str, Json]]:
    """The values of keys, in the sections of a config too."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _values(value, keys)
        elif key in keys:
            yield key, value


# ---- tensors -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """The numbers along one axis that are kept."""

    kept: Sequence[int]

    def of(self, tensor: TensorInfo, axis: int) -> TensorInfo:
        """A tensor with these alone."""
        shape = (*tensor.shape[:axis], len(self.kept), *tensor.shape[axis + 1 :])
        inner = math.prod(tensor.shape[axis + 1 :])
        segments, at = [], 0
        for outer in range(math.prod(tensor.shape[:axis])):
            for one in self.kept:
                start = (outer * tensor.shape[axis] + one) * inner
                segments.append(Segment(at, tensor.data, start, inner))
                at += inner
        return TensorInfo(tensor.name, Joined(tensor.dtype, shape, tuple(segments)))


def _steps(model: Checkpoint, description: Description, count: int, kept: Sequence[int]) -> Iterator[Step]:
    rows, places = _Rows(kept), {old: new for new, old in enumerate(kept)}
    blocks = {
        _block(name): False for name, facts in description.tensors.items() if _holds_experts(name, facts.role)
    }
    steps = []
    for name, tensor in model.tensors.items():
        role = description.tensors[name].role
        if parts := _ONE.fullmatch(name):
            if int(parts[2]) in places:
                steps.append(_copied(f"{parts[1]}{places[int(parts[2])]}{parts[3]}", tensor, role))
            continue
        axis = _axis(name, tensor.shape, blocks.keys(), count)
        if axis is None and _holds_experts(name, role):
            what = f"'{name}' is {list(tensor.shape)}, in which the {count} experts have no axis of their own"
            raise InputError(
                "E222", what, place=model.name, tensor=name, hint="its experts cannot be told apart"
            )
        if axis is not None and len(tensor.shape) == 2 and not _holds_experts(name, role):
            blocks |= {block: True for block in blocks if name.startswith(block)}
        steps.append(_copied(name, tensor if axis is None else rows.of(tensor, axis), role))
    if lacking := [block for block, routed in blocks.items() if not routed]:
        what = (
            f"no router with a row for each of {count} experts is found in '{lacking[0].removesuffix('.')}'"
        )
        raise InputError("E222", what, place=model.name, hint="name a model whose routers are matrices")
    yield from steps


def _holds_experts(name: str, role: str) -> bool:
    return bool(_ONE.fullmatch(name)) or (role.startswith("expert") and "shared" not in name)


def _block(name: str) -> str:
    """The module that has the experts and their router: `model.layers.0.mlp.`."""
    before, found, _ = name.partition("experts.")
    return before if found else re.sub(r"[^.]+\.[^.]+$", "", name)


def _axis(name: str, shape: tuple[int, ...], blocks: Collection[str], count: int) -> int | None:
    """The axis with a number, row or matrix for each expert."""
    if "shared" in name or not any(name.startswith(block) for block in blocks):
        return None
    return next((i for i, size in enumerate(shape) if size == count), None)


def _copied(name: str, tensor: TensorInfo, role: str) -> Step:
    made = OutputTensor(name, tensor.dtype, tensor.shape)
    return Step((made,), (TensorInput(0, tensor),), role=role)


# ---- config.json -------------------------------------------------------------------------------------------


def _config(
    count: int, kept: Sequence[int], per_token: int | None, groups: int | None
) -> Callable[[dict[str, Json]], Mapping[str, Json]]:
    def edit(config: dict[str, Json]) -> dict[str, Json]:
        return {key: edited(key, value) for key, value in config.items()}

    def edited(key: str, value: Json) -> Json:
        if isinstance(value, dict):
            return edit(value)
        if key in _GROUPS and groups is not None and isinstance(value, int):
            return min(value, groups)
        numbers = value if isinstance(value, list) else [value]
        if key in _COUNTS and any(one == count for one in numbers):
            changed: list[Json] = [len(kept) if one == count else one for one in numbers]
            return changed if isinstance(value, list) else changed[0]
        if key in _CHOSEN and all(isinstance(one, int) for one in numbers):
            most = [min(per_token or one, len(kept)) for one in numbers if isinstance(one, int)]
            return [*most] if isinstance(value, list) else most[0]
        return value

    return edit
