"""{{ cookiecutter.name }}: each model counts less than the one before."""

from collections.abc import Iterator

from mergecore import Field, Params, Policy, hookimpl
from mergecore.types import Coefficients, PolicyRequest


class FadingParams(Params):
    factor: float = Field(default=0.5, gt=0, le=1, description="what is left of a weight from model to model")


def choose(request: PolicyRequest, params: FadingParams) -> Coefficients:
    return Coefficients([{"weight": params.factor**place} for place in range(len(request.models))])


@hookimpl
def mergecore_policies() -> Iterator[Policy[FadingParams]]:
    about = "each model counts less than the one before"
    yield Policy(name="{{ cookiecutter.name }}", choose=choose, params=FadingParams, summary=about)
