"""Kinds of layers that a config computes from their places; read `settle_places`.

Every eighth from the fifth on attends, every second has experts: where layers moved, other numbers may say so again.
"""

from __future__ import annotations

from collections.abc import Sequence

from mergecore.models.layers import nested_config
from mergecore.types import Json, Layers

_PAIRS = ("attn_layer", "expert_layer")
"""What stands before `_period` and `_offset`."""

_STEP, _DENSE = "decoder_sparse_step", "mlp_only_layers"


def settle_places(section: dict[str, Json], path: Sequence[str], layers: Layers) -> None:
    """Say in `section` of the config, that of the primary model, by other numbers of which kinds the layers are.

    What no numbers can say stays as it is.
    """
    sources = [(nested_config(config, path), index) for config, index in layers.sources]
    for name in _PAIRS:
        keys = f"{name}_period", f"{name}_offset"
        flags = [_at(index, *(_number(one, section, key) for key in keys)) for one, index in sources]
        if _number(section, {}, keys[0]) and keys[1] in section:
            found = _fitting(flags, _number(section, {}, keys[0]), _number(section, {}, keys[1]))
            if found:
                section[keys[0]], section[keys[1]] = found
    if _number(section, {}, _STEP) and isinstance(section.get(_DENSE), list):
        sparse = [
            index not in _listed(one) and _at(index + 1, _number(one, section, _STEP), 0)
            for one, index in sources
        ]
        step = _number(section, {}, _STEP)
        dense = _renumbered(sources)
        if sparse != [i not in dense and _at(i + 1, step, 0) for i in range(len(sparse))]:
            section[_STEP], section[_DENSE] = 1, [i for i, is_sparse in enumerate(sparse) if not is_sparse]


def _fitting(flags: Sequence[bool], period: int, offset: int) -> tuple[int, int] | None:
    """The period and offset that set exactly these flags: those given if they do, then those of the same period."""
    periods = [period, *(one for one in range(1, len(flags) + 1) if one != period)]
    pairs = [(period, offset), *((p, o) for p in periods for o in range(p))]
    return next((pair for pair in pairs if list(flags) == [_at(i, *pair) for i in range(len(flags))]), None)


def _at(index: int, period: int, offset: int) -> bool:
    return period > 0 and index % period == offset


def _number(section: object, other: object, key: str) -> int:
    """The number under a key of a section, otherwise of the other one; 0 where there is none."""
    for one in (section, other):
        value = one.get(key) if isinstance(one, dict) else None
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0


def _listed(section: dict[str, Json]) -> list[Json]:
    value = section.get(_DENSE)
    return value if isinstance(value, list) else []


def _renumbered(sources: Sequence[tuple[dict[str, Json], int]]) -> list[int]:
    return [i for i, (one, index) in enumerate(sources) if index in _listed(one)]
