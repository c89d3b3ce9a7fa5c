"""A new config from a method and some models; what there is to choose comes from what is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergecore import ConfigError, MergecoreError, MergeMethod, TokenizerStrategy
from mergecore.cli import method_as_json
from mergecore.files import DTYPES, MERGEABLE, parse_documents
from mergecore.types import Json
from mergecore_plugins.ui.desk import Desk
from mergecore_plugins.ui.edits.writing import flow

OTHERS = "Others"
UNUSED = "accepted for compatibility"
"""How the help of a parameter begins that does nothing, and that configs of another tool may have."""


@dataclass(frozen=True)
class Choices:
    """What the buttons of the editor offer."""

    families: Mapping[str, Sequence[Mapping[str, Json]]]
    """The methods by what one wants of them, as `mergecore methods show --json` prints them."""
    names: Sequence[str]
    """The names of these methods."""
    dtypes: Sequence[str]
    tokenizers: Sequence[str]


def choices(desk: Desk) -> Choices:
    """What is installed."""
    families: dict[str, list[Mapping[str, Json]]] = {}
    for one in desk.registry.all(MergeMethod):
        families.setdefault(one.family or OTHERS, []).append(method_as_json(one))
    ordered = sorted(families, key=lambda family: (family == OTHERS, family))
    names = [str(DTYPES[name].torch_name) for name in MERGEABLE]
    order = ["bfloat16", "float16", "float32"]
    return Choices(
        families={family: families[family] for family in ordered},
        names=[str(one["name"]) for methods in families.values() for one in methods],
        dtypes=[*(one for one in order if one in names), *(one for one in names if one not in order)],
        tokenizers=[one.name for one in desk.registry.all(TokenizerStrategy) if one.source != "required"],
    )


@dataclass(frozen=True)
class Field:
    """A parameter of a method, as the page asks for it."""

    name: str
    type: str
    range: str
    default: str
    per_model: bool
    required: bool
    help: str
    proposed: str
    """What is in the field at first; empty where the default is as good."""

    @property
    def usual(self) -> bool:
        """Whether one gives it a value as a rule: it has no default, or none that its example would keep."""
        return self.required or bool(self.proposed)


def fields(method: Mapping[str, Any]) -> list[Field]:
    """The parameters of a method that do something, with what its example gives them."""
    shown = _example(str(method["example"]))
    return [
        Field(
            name=one["name"],
            type=one["type"],
            range=one["range"],
            default=one["default"],
            per_model=one["scope"] == "per model",
            required=one["default"] == "required",
            help=one["help"],
            proposed=flow(shown[one["name"]])
            if one["name"] in shown
            else (_guess(one) if one["default"] == "required" else ""),
        )
        for one in method["parameters"]
        if not one["help"].startswith(UNUSED)
    ]


def _example(text: str) -> dict[str, Json]:
    """The values that an example gives to parameters: the first of each."""
    if not text:
        return {}
    try:
        data = parse_documents(text)[0].data
    except ConfigError:
        return {}
    found: dict[str, Json] = {}
    models = data.get("models")
    for part in [data, *(models if isinstance(models, list) else [])]:
        values = part.get("parameters") if isinstance(part, Mapping) else None
        for name, value in values.items() if isinstance(values, Mapping) else ():
            found.setdefault(name, value)
    return found


def _guess(parameter: Mapping[str, str]) -> str:
    """Something that a required parameter without an example may be."""
    if parameter["type"] in ("number", "whole number"):
        return "1"
    if parameter["type"] == "true or false":
        return "true"
    first = parameter["type"].partition(" or ")[0]
    return first.strip("'") if first.startswith("'") else ""


def composed(method: str, base: str, models: Sequence[str], values: Mapping[str, str], desk: Desk) -> str:
    """The text of a config: what is written for a parameter is YAML, and nothing is the default.

    Raises:
        MergecoreError: for a method that is not installed.
    """
    known = method_as_json(desk.registry.get(MergeMethod, method))
    given = {one.name: values[one.name].strip() for one in fields(known) if values.get(one.name, "").strip()}
    single = {one.name for one in fields(known) if one.per_model}
    own = ", ".join(f"{name}: {_value(text)}" for name, text in given.items() if name in single)
    lines = [f"# {known['summary']}", f"merge_method: {flow(method)}"]
    if base:
        lines.append(f"base_model: {flow(base)}")
    lines.append("models:")
    for model in models:
        lines.append(f"  - model: {flow(model)}")
        if own:
            lines.append(f"    parameters: {{{own}}}")
    shared = [f"  {name}: {_value(text)}" for name, text in given.items() if name not in single]
    return "\n".join([*lines, *(["parameters:", *shared] if shared else [])]) + "\n"


def _value(text: str) -> str:
    """What was written for a parameter, as it can stand within braces."""
    try:
        return flow(parse_documents(f"value: {text}")[0].data["value"])
    except MergecoreError:
        return flow(text)
