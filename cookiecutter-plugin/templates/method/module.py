"""{{ cookiecutter.name }}: a point on the straight line between two models."""

from collections.abc import Iterator

from mergecore import Field, MergeMethod, Params, TensorGroup, hookimpl
from mergecore.types import Merged


class LineParams(Params):
    t: float = Field(default=0.5, ge=0, le=1, description="0: the first model, 1: the second")


def merge(group: TensorGroup, params: LineParams) -> Merged:
    """(1 - t) X_0 + t X_1, block by block; block.x is (2, m) float32, a row for each model."""
    return group.map(lambda block: block.x[0].lerp(block.x[1], params.t))


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[LineParams]]:
    yield MergeMethod(
        name="{{ cookiecutter.name }}",
        merge=merge,
        params=LineParams,
        models=(2, 2),
        formula="(1 - t) X_0 + t X_1",
    )
