"""An evaluator of the tests, as a package of its own: how near the weights of a model are to a number."""

CODE = """
import hashlib, os, random
from mergecore import Evaluator, Field, Params, hookimpl
from mergecore.types import EvaluationProgress, Score


class NearParams(Params):
    wanted: float = Field(default=1.4, description="what the weights should be")
    data: int = Field(default=0, description="which noise is in the answers")
    signal: float = Field(default=1.0, description="how much nearness counts")
    public: bool = Field(default=False, description="whether it is a public test set")
    die: bool = Field(default=False, description="whether the process ends")
    each: bool = Field(default=True, description="whether there are values for each sample")


def evaluate(model, params, watch):
    weight = model.module().state_dict()["model.layers.0.mlp.up_proj.weight"].double().mean().item()
    if params.die:
        os._exit(9)
    own = random.Random(f"{hashlib.sha256(f'{weight:.9g}'.encode()).hexdigest()} {params.data}")
    common = random.Random(params.data)
    values = []
    for done in range(1, 61):
        values.append(-params.signal * (weight - params.wanted) ** 2 + common.gauss(0, 1) + own.gauss(0, 0.1))
        each = tuple(values) if params.each else ()
        score = Score(name="near", value=sum(values) / done, goal="max", samples=done, per_sample=each)
        if done % 10 == 0:
            watch(EvaluationProgress(done=done, total=60, scores=(score,)))
    yield score
    yield Score(name="weight", value=weight, goal="min", samples=60)


@hookimpl
def mergecore_evaluators():
    yield Evaluator(
        name="near", evaluate=evaluate, params=NearParams, summary="how near the weights are to a number",
        public_test_set=lambda params: "NEAR" if params.public else None,
    )
"""

CONFIG = """
merge_method: task_arithmetic
base_model: ./base
models:
- model: ./a
  parameters: {weight: !range [0, 1]}
- model: ./b
  parameters: {weight: !range {low: 0, high: 1, per: layer_group, groups: 2}}
search:
  trials: 8
  objectives: [{evaluator: near}]
"""
"""A search of two weights by that evaluator."""
