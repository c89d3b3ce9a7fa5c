"""How parameters are declared: `Params`, and `PerModel` for a value of each model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from mergecore.files.sizes import parse_size

__all__ = ["Field", "NoParams", "P", "Params", "PerModel", "Size", "for_inputs"]

P = TypeVar("P", bound="Params")
T = TypeVar("T")
S = TypeVar("S", bound="Params")


def _as_tuple(value: object) -> object:
    return value if isinstance(value, (tuple, list)) else (value,)


_PER_MODEL = BeforeValidator(_as_tuple)


PerModel: TypeAlias = Annotated[tuple[T, ...], _PER_MODEL]
"""A parameter with one value for each input of a merge, in their order.

A default is one value for all of them: `density: PerModel[float] = (1.0,)`.
"""


def _bytes(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


_SIZE = BeforeValidator(_bytes)

if TYPE_CHECKING:
    Size: TypeAlias = int
else:  # the type checker need not know how it is written
    Size = Annotated[int, _SIZE, WithJsonSchema({"type": ["string", "integer"]})]
"""A parameter that is a number of bytes, written as such or as `5GB`."""


class Params(BaseModel):
    """Base class of the parameters of a plugin: frozen, finite numbers only, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_value_for_each_model(self: S) -> S:
        """Give every `PerModel` field the length of the longest one."""
        rows = {name: _as_tuple(getattr(self, name)) for name in _per_model_fields(type(self))}
        longest = max((len(cast("tuple[object, ...]", row)) for row in rows.values()), default=0)
        for name, row in rows.items():
            row = tuple(cast("Iterable[object]", row))
            if len(row) not in (1, longest):
                raise ValueError(f"'{name}' has {len(row)} values where another parameter has {longest}")
            self.__dict__[name] = row * (longest if len(row) == 1 else 1)
        return self


class NoParams(Params):
    """The parameters of a plugin that has none."""


NO_PARAMS: Any = NoParams
"""The default of `params`, whatever type of parameters a plugin goes by."""


def for_inputs(params: P, n: int) -> P:
    """`params` as a merge of `n` inputs has them: a `PerModel` field of one value has it for each input."""
    rows = {name: getattr(params, name) for name in _per_model_fields(type(params))}
    return params.model_copy(update={name: row * n for name, row in rows.items() if len(row) == 1})


def _per_model_fields(params: type[Params]) -> list[str]:
    return [name for name, info in params.model_fields.items() if _PER_MODEL in info.metadata]
