"""The JSON schema of configs: one branch for each method, and the keys of the grammar."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pytest

from mergecore.config.grammar import MergeConfig
from mergecore.config.schema import schema
from mergecore.types import MergeMethod
from mergecore.types.params import Field, Params, PerModel


class Ties(Params):
    weight: PerModel[float]
    density: PerModel[Annotated[float, Field(ge=0, le=1)]] = (1.0,)
    factor: float = Field(default=1.0, alias="lambda")


class Plain(Params):
    pass


def method(name: str, params: type[Params]) -> MergeMethod[Params]:
    return MergeMethod(name=name, merge=lambda group, params: group.x[0], params=params)


Tree = Any  # JSON of known shape


@pytest.fixture
def tree() -> Tree:
    return schema([method("ties", Ties), method("plain", Plain)])


def test_the_keys_are_those_of_the_grammar(tree: Tree) -> None:
    assert set(tree["properties"]) == set(MergeConfig.model_fields)
    assert tree["additionalProperties"] is False
    assert tree["$defs"]["SourceConfig"]["required"] == ["model", "layer_range"]


def test_an_executor_may_be_its_name_alone(tree: Tree) -> None:
    assert tree["properties"]["executor"]["anyOf"] == [{"$ref": "#/$defs/ExecutorConfig"}, {"type": "string"}]


def test_installed_methods_are_listed(tree: Tree) -> None:
    listed, with_distribution = tree["properties"]["merge_method"]["anyOf"]
    assert listed["enum"] == ["plain", "ties"]
    fits = re.compile(with_distribution["pattern"]).search
    assert fits("ties@mergecore")
    assert not any(map(fits, ("ties", "ties@", "bties@mergecore", "tie@mergecore")))


def test_each_method_has_a_branch_that_knows_its_parameters_and_where_they_stand(tree: Tree) -> None:
    plain, ties = tree["allOf"]
    assert ties["if"]["properties"]["merge_method"] == {"const": "ties"}
    then = ties["then"]["properties"]
    assert set(then["parameters"]["properties"]) == {"weight", "density", "lambda"}
    assert set(then["models"]["items"]["properties"]["parameters"]["properties"]) == {"weight", "density"}
    sources = then["slices"]["items"]["properties"]["sources"]
    assert set(sources["items"]["properties"]["parameters"]["properties"]) == {"weight", "density"}
    module = then["modules"]["additionalProperties"]["properties"]
    assert set(module["parameters"]["properties"]) == {"weight", "density", "lambda"}
    assert plain["then"]["properties"]["parameters"]["properties"] == {}
