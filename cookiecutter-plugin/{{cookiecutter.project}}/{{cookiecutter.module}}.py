"""{{ cookiecutter.method }}: {{ cookiecutter.summary }}"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mergecore import Field, MergeMethod, Params, hookimpl

if TYPE_CHECKING:  # these would load torch, which listing a plugin does not need
    from mergecore import TensorGroup
    from mergecore.types import Merged


class {{ cookiecutter.__params }}(Params):
    """What configs may write below `parameters:`."""

    t: float = Field(default=0.5, ge=0, le=1, description="0: first model, 1: second")


def {{ cookiecutter.method }}(group: TensorGroup, params: {{ cookiecutter.__params }}) -> Merged:
    """(1 - t) X_0 + t X_1, block by block; block.x is (2, m), a row for each model."""
    return group.map(lambda block: block.x[0].lerp(block.x[1], params.t))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[{{ cookiecutter.__params }}]]:
    """Yield the method."""
    yield MergeMethod(
        name="{{ cookiecutter.method }}",
        merge={{ cookiecutter.method }},
        params={{ cookiecutter.__params }},
        models=(2, 2),
        formula="(1 - t) X_0 + t X_1",
    )
