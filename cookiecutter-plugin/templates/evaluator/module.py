"""{{ cookiecutter.name }}: the share of the weights of a model that are nearly 0."""

from collections.abc import Iterator

from mergecore import Evaluator, Field, Params, hookimpl
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch


class NearZeroParams(Params):
    below: float = Field(default=1e-6, gt=0, description="what counts as 0: magnitudes below this")
    limit: int | None = Field(default=None, ge=1, description="look at this many tensors at most, the first ones")


def evaluate(model: EvaluatedModel, params: NearZeroParams, watch: Watch) -> Iterator[Score]:
    tensors = [one.detach() for one in model.module().parameters()][: params.limit]
    shares: list[float] = []
    for done, tensor in enumerate(tensors, 1):
        shares.append((tensor.abs() < params.below).double().mean().item())
        watch(EvaluationProgress(done=done, total=len(tensors)))
    sizes = tuple(float(tensor.numel()) for tensor in tensors)
    yield Score(
        name="near_zero",
        value=sum(a * b for a, b in zip(shares, sizes, strict=True)) / sum(sizes),
        goal="max",
        samples=len(shares),
        per_sample=tuple(shares),
        weights=sizes,
    )


@hookimpl
def mergecore_evaluators() -> Iterator[Evaluator[NearZeroParams]]:
    yield Evaluator(
        name="{{ cookiecutter.name }}",
        evaluate=evaluate,
        params=NearZeroParams,
        summary="the share of weights that are nearly 0",
    )
