"""One number of a config at several values, each of which is a model; read `read_sweep`, then `swept`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from mergecore import ConfigError, Document, PlanOptions, plan
from mergecore.errors import did_you_mean
from mergecore.files import parse_documents, read_text
from mergecore.types import Json
from mergecore_plugins.evaluation.models import Place, PlannedModel, opened

MOST = 200
"""Values of a sweep at most."""
_HINT = "write such as --sweep lambda=0.1:1:0.1, or --sweep lambda=0.3,0.5,1"


@dataclass(frozen=True)
class Sweep:
    """What `--sweep NAME=VALUES` asks for.

    name: of a parameter, or MODEL.PARAMETER for that of one model.  values: in the order of the command line.
    """

    name: str
    values: tuple[float, ...]

    def called(self, value: float) -> str:
        """The name of the model with this value."""
        return f"{self.name} {value:g}"


def read_sweep(text: str) -> Sweep:
    """What is asked for: `NAME=FIRST:LAST:STEP`, both ends included, or `NAME=A,B,C`.

    Raises:
        ConfigError: E115.
    """
    name, _, said = text.partition("=")
    try:
        values = tuple(float(one) for one in _values(said))
    except (InvalidOperation, ValueError):
        values = ()
    if not name.strip() or not values:
        raise ConfigError("E115", f"--sweep: '{text}' names no values of a parameter", hint=_HINT)
    if len(values) > MOST:
        what = f"--sweep: {len(values)} values are more than {MOST}"
        raise ConfigError("E115", what, hint="take a larger step, or use `mergecore search`")
    return Sweep(name.strip(), tuple(dict.fromkeys(values)))


def _values(said: str) -> Iterator[Decimal]:
    if ":" not in said:
        yield from (Decimal(one.strip()) for one in said.split(","))
        return
    first, last, step = (Decimal(one.strip()) for one in said.split(":"))
    if not step or (last - first) / step < 0:
        return
    for number in range(min(MOST + 1, int((last - first) / step) + 1)):
        yield first + number * step


def swept(config: str, sweep: Sweep, place: Place) -> Iterator[PlannedModel]:
    """The merges of a config with each value; no weight is read.

    Raises:
        MergecoreError: what is wrong with the config, or with the parameter in it.
    """
    documents = parse_documents(read_text(Path(config)), config)
    for value in sweep.values:
        changed = [*documents[:-1], _with(documents[-1], sweep.name, value)]
        made = plan(changed, registry=place.registry, options=PlanOptions(offline=place.offline))
        yield opened(made, name=sweep.called(value), place=place)


def _with(document: Document, name: str, value: float) -> Document:
    """The document with a value of a parameter: that of all models, or of one."""
    data: dict[str, Any] = deepcopy(dict(document.data))
    named, dot, parameter = name.rpartition(".")
    own = [one for one in _entries(data) if "model" in one]
    if dot:
        holders = [one for one in own if named in _names(one)]
        if not holders:
            known = [_names(one)[-1] for one in own]
            what = f"--sweep: the config merges no model '{named}'{did_you_mean(named, known)}"
            raise ConfigError("E115", what, place=document.place(), hint=f"it merges {', '.join(known)}")
    else:
        holders, parameter = [data], name
        if having := [one for one in own if name in (one.get("parameters") or {})]:
            what = f"--sweep: models of this config have a '{name}' of their own, which counts more"
            hint = f"name one of them: --sweep {_names(having[0])[-1]}.{name}=…"
            raise ConfigError("E115", what, place=document.place(), hint=hint)
    for one in holders:
        one["parameters"] = {**(one.get("parameters") or {}), parameter: value}
    return replace(document, data=data)


def _names(entry: Mapping[str, Json]) -> list[str]:
    """What an entry may be called: its model as it is written, and the last part of that."""
    model = str(entry["model"])
    return [*dict.fromkeys((model, model.rstrip("/").rpartition("/")[2]))]


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    """Every entry of a config below its top."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        if isinstance(one, dict):
            yield one
        yield from _entries(one)
