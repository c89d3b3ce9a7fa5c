"""What the grid shows of a plan, and where in the config it is written; read `Shape`.

It goes to the page with each plan, and comes back with what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr

KINDS = ("embed", "attn", "mlp", "expert", "router", "norm", "head")
"""What tensors do, as the columns have it."""
Value: TypeAlias = "float | Sequence[float] | None"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Row(_Part):
    """Layers, or what stands before or after them."""

    label: str
    section: str = ""
    """The module, or the stack of layers, where there are several."""


class Parameter(_Part):
    """A parameter of the method that is a number."""

    name: str
    per_model: bool
    low: float | None = None
    high: float | None = None
    whole: bool = False
    default: float | None = None
    help: str = ""


class Body(_Part):
    """Models that are merged at all layers, or at those of a slice.

    levels: where parameters for all of them stand, the closest first, and where those of `entries` stand; by the
    number of the model in the grid, for each the path of its entry in the config.
    """

    levels: Sequence[tuple[StrictStr | StrictInt, ...]]
    entries: dict[int, tuple[StrictStr | StrictInt, ...]]
    count: int
    """The number of its layers."""


class Tensor(_Part):
    """A tensor that is merged: its place in the grid, and what decides its parameters.

    own: its names in the models where they differ from that of the output, by the number of the model.
    """

    name: str
    role: str
    row: int
    column: int
    t: float
    body: int
    inside: bool
    own: dict[int, str] = {}
    models: Sequence[int] = ()
    """The models that it is merged from, by their numbers in the grid."""


class Shape(_Part):
    """Rows and columns, models and parameters, and every tensor that is merged."""

    method: str
    document: str | None
    """What the document calls itself, where there are several."""
    rows: Sequence[Row]
    columns: Sequence[str]
    models: Sequence[str]
    parameters: Sequence[Parameter]
    bodies: Sequence[Body]
    tensors: Sequence[Tensor]


class Facts(_Part):
    """The shape, and the values: of each parameter for each model (or for all), by row and column.

    A value is a number; two where the tensors of a cell differ, the least and the greatest; none at all
    where nothing is set; None without tensors.
    """

    shape: Shape
    values: Mapping[str, Sequence[Sequence[Sequence[Value]]]]


def family(role: str) -> str:
    """The part of a role that filters of a column name: `attn` of `attn.q`, `vision.attn` of `vision.attn.q`."""
    parts = role.split(".")
    known = next((i for i, one in enumerate(parts) if one in KINDS), 0)
    return ".".join(parts[: known + 1])
