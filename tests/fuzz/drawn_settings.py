"""Random settings of parameters: a value, a gradient or cases, in places that count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fuzz import drawing
from fuzz.reference.methods import METHODS, Parameter

Random = drawing.Random


@dataclass
class Places:
    """The mappings of a config that may hold parameters, from the most particular to the top."""

    models: list[dict[str, Any]]
    """Of single models, or sources."""
    slices: list[dict[str, Any]]
    top: dict[str, Any]


def filters(random: Random, names: Sequence[str], roles: bool) -> str:
    """A filter that matches some tensors: part of a name, a pattern, an expression, a role."""
    name = drawing.pick(random, names)
    words = [word for word in name.split(".") if not word.isdigit()]
    word = drawing.pick(random, words)
    kinds = ["part", "glob", "re", "number"] + ["role"] * 2 * roles
    kind = drawing.pick(random, kinds)
    if kind == "role":
        return "role:" + str(drawing.pick(random, ("attn", "mlp", "norm", "embed", "attn.q", "mlp.down")))
    if kind == "number":
        return ".".join(name.split(".")[:3])
    forms = {"part": word, "glob": f"glob:*{word}*", "re": f"re:{word[:2]}.*{word[-1]}$"}
    return str(forms[kind])


def setting(random: Random, parameter: Parameter, names: Sequence[str], roles: bool, whole: bool) -> Any:
    """A setting; `whole` if it must say something of every tensor."""
    form = random.random()
    if form < 0.5:
        return _leaf(random, parameter)
    count = int(random.integers(1, 4))
    cases = [
        {"filter": filters(random, names, roles), "value": _leaf(random, parameter)} for _ in range(count)
    ]
    if whole or random.random() < 0.5:
        last: dict[str, Any] = {"value": _leaf(random, parameter)}
        cases.append(last if random.random() < 0.7 else {"filter": "*", **last})
    return cases[0] if len(cases) == 1 and form > 0.9 else cases


def _leaf(random: Random, parameter: Parameter) -> Any:
    """A value or a gradient."""
    if parameter.kind == "number" and random.random() < 0.35:
        return [drawing.number(random, parameter) for _ in range(int(random.integers(1, 5)))]
    return drawing.value(random, parameter)


def fill(random: Random, method: str, models: int, places: Places, names: Sequence[str], roles: bool) -> None:
    """Set the parameters of a method of so many models at random places, so that each tensor has those it needs."""
    for name, parameter in usable(random, method, models).items():
        if parameter.per_model and random.random() < 0.7:
            for one in places.models:
                if random.random() < 0.8:
                    one[name] = setting(random, parameter, names, roles, whole=False)
        for one in places.slices:
            if random.random() < 0.4:
                one[name] = setting(random, parameter, names, roles, whole=False)
        if parameter.required or random.random() < 0.5:
            places.top[name] = setting(random, parameter, names, roles, whole=parameter.required)


def usable(random: Random, method: str, models: int) -> dict[str, Parameter]:
    """The parameters with ranges in which every combination is accepted."""
    found = dict(METHODS[method].parameters)
    if method.startswith("della"):
        found["density"] = replace(found["density"], default=1.0, low=0.3, high=0.7)
        found["epsilon"] = replace(found["epsilon"], high=0.25)
        found["density"] = replace(found["density"], required=True)
    elects = method in ("ties", "dare_ties", "breadcrumbs_ties", "della", "consensus_ties")
    if "normalize" in found and "weight" in found and not elects and random.random() < 0.6:
        found["weight"] = replace(found["weight"], low=0.05, high=1.5)
    elif "normalize" in found and method != "linear" and not elects:
        found["normalize"] = replace(found["normalize"], kind="choice", choices=(False,))
    if "k" in found:
        found["k"] = replace(found["k"], high=models)
    return found
