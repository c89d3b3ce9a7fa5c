"""What `!range` and `!choice` say; read `declared`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from mergecore import ConfigError
from mergecore.errors import did_you_mean
from mergecore.files import Tagged
from mergecore.types import Json

PER = ("layer_group", "role")
MOST = 64
"""Groups of layers at most."""
SHAPE = "write `!range [0.1, 0.9]` or `!range {low: 0.1, high: 0.9}`"


@dataclass(frozen=True)
class Range:
    """Numbers between two ends."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False
    per: tuple[str, ...] = ()
    groups: int = 1
    roles: tuple[str, ...] = ("attn", "mlp")
    name: str = ""

    def same_as(self, other: object) -> bool:
        """Whether another value may be the same."""
        return self == other


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    options: tuple[Json, ...]
    name: str = ""

    def same_as(self, other: object) -> bool:
        """Whether another choice may be made together with this one: it has as many options."""
        return isinstance(other, Choice) and len(self.options) == len(other.options)


def declared(tagged: Tagged) -> Range | Choice:
    """What a value with a tag says.

    Raises:
        ConfigError: E103 for a key that there is not, E104 for a value that cannot be, with the place.
    """
    return _choice(tagged) if tagged.tag == "!choice" else _range(tagged)


def _wrong(tagged: Tagged, what: str, hint: str) -> ConfigError:
    return ConfigError("E104", what, place=tagged.place, hint=hint)


def _choice(tagged: Tagged) -> Choice:
    said = tagged.value if isinstance(tagged.value, dict) else {"options": tagged.value}
    _check_keys(tagged, said, ("options", "name"))
    options = said.get("options")
    if not isinstance(options, list) or len(options) < 2:
        hint = "write `!choice [ties, dare_ties]` or `!choice {options: [ties, dare_ties], name: method}`"
        raise _wrong(tagged, "a choice is a list of two values or more", hint)
    repeated = [one for i, one in enumerate(options) if one in options[:i]]
    if repeated:
        raise _wrong(tagged, f"a choice lists {repeated[0]!r} twice", "list each value once")
    return Choice(tuple(options), _name(tagged, said))


def _range(tagged: Tagged) -> Range:
    said = tagged.value
    if isinstance(said, list):
        if len(said) != 2:
            raise _wrong(tagged, f"a range has two ends; this list has {len(said)} values", SHAPE)
        said = {"low": said[0], "high": said[1]}
    if not isinstance(said, dict):
        raise _wrong(tagged, f"a range has two ends; this is {said!r}", SHAPE)
    _check_keys(tagged, said, ("low", "high", "log", "step", "int", "per", "groups", "roles", "name"))
    low, high = _number(tagged, said, "low"), _number(tagged, said, "high")
    whole = _flag(tagged, said, "int")
    found = Range(
        low=low,
        high=high,
        log=_flag(tagged, said, "log"),
        step=_number(tagged, said, "step") if said.get("step") is not None else None,
        whole=whole,
        per=_per(tagged, said),
        groups=_groups(tagged, said),
        roles=_roles(tagged, said),
        name=_name(tagged, said),
    )
    _check(tagged, found)
    return found


def _check(tagged: Tagged, one: Range) -> None:
    """Raise E104 for values that contradict each other."""
    if not one.low < one.high:
        hint = "write the smaller end first; where they are the same, write one value"
        raise _wrong(tagged, f"the range from {one.low:g} to {one.high:g} holds nothing", hint)
    if one.log and one.low <= 0:
        hint = "begin above 0, or leave 'log' out"
        raise _wrong(tagged, f"a range with 'log' begins at {one.low:g}, which has no logarithm", hint)
    if one.step is not None and not 0 < one.step <= one.high - one.low:
        hint = "take a step that fits between the ends"
        raise _wrong(tagged, f"the step {one.step:g} does not fit into the range", hint)
    if one.log and one.step is not None:
        raise _wrong(tagged, "'log' and 'step' exclude each other", "keep one of them")
    if one.whole and not all(float(value).is_integer() for value in (one.low, one.high, one.step or 1)):
        raise _wrong(tagged, "a range with 'int' has ends that are no whole numbers", "write whole numbers")
    if one.whole and one.per:
        hint = "leave 'int' or 'per' out"
        raise _wrong(
            tagged, "'int' and 'per' exclude each other: values between groups are no whole numbers", hint
        )


def _check_keys(tagged: Tagged, said: Mapping[str, Json], known: tuple[str, ...]) -> None:
    for key in said:
        if key not in known:
            near = did_you_mean(key, known)
            what = f"a {tagged.tag.removeprefix('!')} has no key '{key}'{near}"
            raise ConfigError("E103", what, place=tagged.place, hint=f"there are {', '.join(known)}")


def _number(tagged: Tagged, said: Mapping[str, Json], key: str) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(tagged, f"'{key}' of a range is {value!r}; a number is expected", SHAPE)
    return value


def _flag(tagged: Tagged, said: Mapping[str, Json], key: str) -> bool:
    value = said.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(
            tagged, f"'{key}' of a range is {value!r}; true or false is expected", f"write '{key}: true'"
        )
    return value


def _name(tagged: Tagged, said: Mapping[str, Json]) -> str:
    value = said.get("name", "")
    if not isinstance(value, str) or (not value and "name" in said):
        raise _wrong(tagged, f"the name {value!r} is not text", "write such as 'name: shared'")
    return value


def _per(tagged: Tagged, said: Mapping[str, Json]) -> tuple[str, ...]:
    value = said.get("per", [])
    words = value if isinstance(value, list) else [value]
    for word in words:
        if word not in PER:
            near = did_you_mean(str(word), PER)
            what = f"a range is for each {' or '.join(PER)}; 'per' is {word!r}{near}"
            raise _wrong(tagged, what, "write 'per: layer_group', 'per: role' or 'per: [role, layer_group]'")
    return tuple(cast("list[str]", words))


def _groups(tagged: Tagged, said: Mapping[str, Json]) -> int:
    by_layer = "layer_group" in _per(tagged, said)
    if "groups" in said and not by_layer:
        raise _wrong(tagged, "'groups' has no effect without 'per: layer_group'", "add that, or leave it out")
    if not by_layer:
        return 1
    value = said.get("groups", 4)
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= MOST:
        raise _wrong(
            tagged, f"'groups' is {value!r}; a whole number from 2 to {MOST} is expected", "write 'groups: 4'"
        )
    return value


def _roles(tagged: Tagged, said: Mapping[str, Json]) -> tuple[str, ...]:
    value = said.get("roles", ["attn", "mlp"])
    if "roles" in said and "role" not in _per(tagged, said):
        raise _wrong(tagged, "'roles' has no effect without 'per: role'", "add that, or leave it out")
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise _wrong(
            tagged, f"'roles' is {value!r}; a list of roles is expected", "write 'roles: [attn, mlp]'"
        )
    return tuple(cast("list[str]", value))
