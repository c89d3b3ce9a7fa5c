"""{{ cookiecutter.name }}: the share of the weights of a tensor that are nearly 0, on average."""

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
    mean = sum(shares) / len(shares)
    yield Score(name="near_zero", value=mean, goal="max", samples=len(shares), per_sample=tuple(shares))


@hookimpl
def mergecore_evaluators() -> Iterator[Evaluator[NearZeroParams]]:
    about = "the share of the weights of a tensor that are nearly 0"
    yield Evaluator(name="{{ cookiecutter.name }}", evaluate=evaluate, params=NearZeroParams, summary=about)
