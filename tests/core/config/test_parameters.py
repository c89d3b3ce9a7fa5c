"""Declarations of parameters: values for each model, conversions, and what is told about them."""

from __future__ import annotations

import pickle
from typing import Annotated, Literal

import pytest
from pydantic import ValidationError, field_validator

from mergecore.config.parameters.declared import describe_params, parameters_of, setting_schema
from mergecore.errors import ConfigError
from mergecore.types.params import Field, Params, PerModel


class Example(Params):
    weight: PerModel[float]
    density: PerModel[Annotated[float, Field(ge=0, le=1)]] = (1.0,)
    scale: PerModel[float | None] = (None,)
    normalize: bool = Field(default=True, description="divide by the sum of the weights")
    rescale: bool | Literal["l1"] = False
    rounds: Annotated[int, Field(gt=0)] = 10
    t: float = Field(default=0.5, ge=0, lt=1)
    kind: Literal["soft", "hard"] = "soft"
    factor: float = Field(default=1.0, alias="lambda")

    @field_validator("factor")
    @classmethod
    def _odd(cls, value: float) -> float:
        if value == 13:
            raise ValueError("bad luck")
        return value


class Short(Params):
    weight: PerModel[float]
    density: PerModel[float] = 1.0  # type: ignore[assignment]  # what somebody without a type checker writes


def test_a_value_for_each_model_is_a_tuple_and_a_default_is_repeated() -> None:
    params = Short(weight=(0.5, 0.25, 1))
    assert params.weight == (0.5, 0.25, 1.0)
    assert params.density == (1.0, 1.0, 1.0)


def test_one_value_stands_for_all_models() -> None:
    params = Example.model_validate({"weight": 2, "density": [0.5, 0.25], "lambda": 3})
    assert params.weight == (2.0, 2.0)
    assert params.scale == (None, None)
    assert params.factor == 3.0


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValidationError, match="'weight' has 2 values where another parameter has 3"):
        Short(weight=(1, 2), density=(1, 1, 1))


def test_parameters_are_frozen_finite_and_known() -> None:
    params = Short(weight=(1.0,))
    with pytest.raises(ValidationError, match="frozen"):
        params.weight = (2.0,)
    with pytest.raises(ValidationError, match="finite"):
        Short(weight=(float("nan"),))
    with pytest.raises(ValidationError, match="not permitted"):
        Short.model_validate({"weight": 1, "wieght": 1})


def test_parameters_can_be_sent_to_another_process() -> None:
    params = Short(weight=(1.0, 2.0))
    assert pickle.loads(pickle.dumps(params)) == params  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("weight", 1, 1.0),
        ("weight", "1e-5", 1e-5),
        ("weight", True, 1.0),
        ("scale", None, None),
        ("scale", 2, 2.0),
        ("normalize", "yes", True),
        ("normalize", 0, False),
        ("rescale", "l1", "l1"),
        ("rescale", "off", False),
        ("rounds", 5.0, 5),
        ("kind", "hard", "hard"),
        ("lambda", 0.5, 0.5),
    ],
)
def test_what_is_written_becomes_the_declared_type(name: str, written: object, value: object) -> None:
    found = parameters_of(Example)[name].convert(written)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "written", "code", "message"),
    [
        ("weight", "half", "E104", "parameter 'weight' is 'half'; a number is expected"),
        ("weight", float("nan"), "E105", "parameter 'weight' is nan; a finite number is expected"),
        ("weight", "inf", "E105", "parameter 'weight' is 'inf'; a finite number is expected"),
        ("density", 1.5, "E105", "parameter 'density' is 1.5; a number from 0 to 1 is expected"),
        ("scale", float("inf"), "E105", "parameter 'scale' is inf; a finite number is expected"),
        ("normalize", 2, "E104", "parameter 'normalize' is 2; true or false is expected"),
        ("rescale", "l2", "E104", "parameter 'rescale' is 'l2'; true or false or 'l1' is expected"),
        ("rounds", 2.5, "E104", "parameter 'rounds' is 2.5; a whole number above 0 is expected"),
        ("rounds", 0, "E105", "parameter 'rounds' is 0; a whole number above 0 is expected"),
        ("t", 1, "E105", "parameter 't' is 1; a number at least 0 and below 1 is expected"),
        ("kind", "sof", "E105", "parameter 'kind' is 'sof'; 'soft' or 'hard' is expected"),
        ("weight", "x" * 500, "E104", "parameter 'weight' is 'xxx.*\\.\\.\\.; a number is expected"),
    ],
)
def test_what_does_not_fit_is_told_with_what_is_expected(
    name: str, written: object, code: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$") as caught:
        parameters_of(Example)[name].convert(written)
    assert caught.value.code == code


def test_a_table_says_name_type_default_range_scope_and_help() -> None:
    rows = {row.name: row for row in describe_params(Example)}
    assert list(rows)[:2] == ["weight", "density"]
    assert (rows["weight"].default, rows["weight"].scope) == ("required", "per model")
    assert (rows["density"].default, rows["density"].range) == ("1.0", "[0, 1]")
    assert (rows["scale"].type, rows["scale"].default) == ("number or none", "none")
    assert rows["rescale"].type == "true or false or 'l1'"
    assert (rows["rounds"].type, rows["rounds"].range) == ("whole number", "(0, ∞)")
    assert rows["t"].range == "[0, 1)"
    assert rows["normalize"].help == "divide by the sum of the weights"
    assert rows["lambda"].scope == "shared"
    assert [row.default for row in describe_params(Short)] == ["required", "1.0"]


def test_the_schema_of_a_setting_allows_a_value_a_gradient_and_cases() -> None:
    schema = setting_schema(parameters_of(Example)["density"])
    number = {"type": "number", "minimum": 0, "maximum": 1}
    assert isinstance(schema["anyOf"], list)
    assert schema["anyOf"][:2] == [number, {"type": "array", "items": number}]
    assert len(schema["anyOf"]) == 4
