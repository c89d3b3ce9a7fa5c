"""What several tests of merge configs share."""

from __future__ import annotations

from typing import Annotated

from mergecore.config.grammar import (
    MergeConfig,
    read_config,
)
from mergecore.errors import ConfigError, MergecoreError, Problems, did_you_mean
from mergecore.files.yaml_document import parse_document
from mergecore.plugins.registry import Registry
from mergecore.types.params import Field, Params, PerModel


class Linear(Params):
    weight: PerModel[float]
    normalize: bool = True


class Ties(Linear):
    density: PerModel[Annotated[float, Field(ge=0, le=1)]] = (1.0,)
    factor: float = Field(default=1.0, alias="lambda")


REGISTRY = Registry.discover((), {})


METHODS: dict[str, type[Params]] = {"linear": Linear, "ties": Ties}


def params_of(name: str) -> type[Params]:
    if name not in METHODS:
        raise ConfigError("E108", f"unknown merge method '{name}'{did_you_mean(name, list(METHODS))}")
    return METHODS[name]


def read(text: str) -> MergeConfig:
    return read_config(parse_document(text, "config.yml"), params_of, registry=REGISTRY)


def faults(text: str) -> list[str]:
    """The code and the text of everything that is wrong with a config."""
    try:
        read(text)
    except MergecoreError as error:
        return [f"{one.code} {one}" for one in (error.errors if isinstance(error, Problems) else [error])]
    return []


def two_models(method: str = "linear", params: str = "weight: 0.5", extra: str = "") -> str:
    return f"merge_method: {method}\n{extra}models:\n" + "".join(
        f"  - model: {model}\n    parameters: {{{params}}}\n" for model in ("m/a", "m/bad")
    )
