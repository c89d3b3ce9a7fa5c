"""{{ cookiecutter.name }}: tries the ends of ranges, and keeps values of the best point so far."""

from random import Random

from mergecore import Field, Params, Sampler, hookimpl
from mergecore.types import Options, Point, SearchRequest, Tried


class EndsParams(Params):
    keep: float = Field(default=0.5, ge=0, lt=1, description="how likely a value of the best point is kept")


class Ends:
    def __init__(self, request: SearchRequest, params: EndsParams) -> None:
        self.request, self.keep, self.best = request, params.keep, Tried(number=-1, point={}, values=())

    def ask(self, number: int) -> Point:
        draw, among = Random(f"{self.request.seed} {number}"), self.request.dimensions
        ends = [range(one.count) if isinstance(one, Options) else (one.low, one.high) for one in among]
        drawn = {one.name: draw.choice(some) for one, some in zip(among, ends, strict=True)}
        return drawn | {name: value for name, value in self.best.point.items() if draw.random() < self.keep}

    def tell(self, tried: Tried) -> None:
        self.best = max(self.best, tried, key=lambda one: one.values if one.state == "complete" else ())


@hookimpl
def mergecore_samplers() -> list[Sampler[EndsParams]]:
    about = "the ends of ranges, and values of the best point"
    return [Sampler(name="{{ cookiecutter.name }}", begin=Ends, params=EndsParams, summary=about)]
