"""Parameters of one tensor: which level wins, what filters see, and what is refused.

"Vector n" names the conformance vectors of the config grammar that concern parameters.
"""

from __future__ import annotations

from typing import Annotated

import pytest

from mergecore.config.parameters.resolver import (
    ModelEntry,
    ParameterSource,
    Resolver,
    TensorPosition,
    check_parameters,
)
from mergecore.errors import Collector, ConfigError, MergecoreError, Problems
from mergecore.files.yaml_document import parse_document
from mergecore.types import Json
from mergecore.types.params import Field, Params, PerModel


class Linear(Params):
    weight: PerModel[float]
    density: PerModel[Annotated[float, Field(ge=0, le=1)]] = (1.0,)
    normalize: bool = True
    rounds: int = 3
    factor: float = Field(default=1.0, alias="lambda")


def source(**settings: Json) -> ParameterSource:
    return ParameterSource(settings)


def weights(
    *own: ParameterSource,
    shared: tuple[ParameterSource, ...] = (),
    t: float = 0.0,
    name: str = "x",
    out: str = "x",
    role: str = "",
) -> tuple[float, ...]:
    inputs = [ModelEntry(f"m{i}", name, (one,)) for i, one in enumerate(own)]
    return Resolver(Linear, "linear").resolve(TensorPosition(out, t, role), inputs, shared).weight


# ---- values ------------------------------------------------------------------------------------------------


def test_vector_1_a_gradient_runs_over_the_layers_and_a_constant_does_not() -> None:
    one, zero = source(weight=[0, 1]), source(weight=1)
    found = [weights(one, zero, t=k / 3) for k in range(4)]
    assert found == [(0.0, 1.0), (pytest.approx(1 / 3), 1.0), (pytest.approx(2 / 3), 1.0), (1.0, 1.0)]


def test_vector_2_at_the_end_a_gradient_has_its_last_value() -> None:
    assert weights(source(weight=[0.25, 1]), t=1.0) == (1.0,)
    assert weights(source(weight=[0.25, 1]), t=0.0) == (0.25,)


def test_vector_3_filters_of_a_model_see_the_name_in_that_model() -> None:
    cases: Json = [{"filter": "layers.1.", "value": 5}, {"filter": "self_attn", "value": 2}, {"value": 3}]
    own = source(weight=cases)
    # output layers 2 and 3 are layers 0 and 1 of the model again
    assert weights(own, name="layers.0.self_attn.q", out="layers.2.self_attn.q") == (2.0,)
    assert weights(own, name="layers.1.self_attn.q", out="layers.3.self_attn.q") == (5.0,)
    assert weights(own, name="layers.0.norm", out="layers.2.norm") == (3.0,)


def test_vector_4_a_slice_goes_before_the_top_level() -> None:
    assert weights(source(), shared=(source(weight=2), source(weight=7))) == (2.0,)


def test_vector_5_what_matches_nothing_falls_through_to_the_next_level() -> None:
    own = source(weight=[{"filter": "self_attn", "value": 2}])
    top = source(weight=[{"filter": "nope", "value": 1}, {"value": 9}])
    assert weights(own, shared=(top,), name="self_attn.q_proj") == (2.0,)
    assert weights(own, shared=(top,), name="mlp.up_proj") == (9.0,)


def test_vector_7_a_module_goes_before_the_top_level() -> None:
    resolver = Resolver(Linear, "linear")
    shared = (source(weight=3, normalize=0), source(weight=9))
    params = resolver.resolve(TensorPosition("x"), [ModelEntry("one", "x", (source(),))], shared)
    assert (params.weight, params.normalize) == ((3.0,), False)


def test_an_empty_list_falls_through_to_the_next_level_and_then_to_the_default() -> None:
    assert weights(source(weight=[]), shared=(source(weight=4),)) == (4.0,)
    params = Resolver(Linear, "linear").resolve(
        TensorPosition("x"),
        [ModelEntry("a", "x", (source(weight=1, density=[]),))],
        (source(rounds=[]),),
    )
    assert (params.density, params.rounds) == ((1.0,), 3)


def test_filters_of_shared_parameters_see_the_name_in_the_output() -> None:
    shared = (source(rounds={"filter": "layers.3.", "value": 7}),)
    resolver = Resolver(Linear, "linear")
    inputs = [ModelEntry("a", "layers.1.x", (source(weight=1),))]
    assert resolver.resolve(TensorPosition("layers.3.x"), inputs, shared).rounds == 7
    assert resolver.resolve(TensorPosition("layers.1.x"), inputs, shared).rounds == 3


def test_filters_on_roles_see_the_role_of_the_tensor() -> None:
    own = source(weight=[{"filter": "role:mlp", "value": 1}, {"value": 2}])
    assert weights(own, role="mlp.up") == (1.0,)
    assert weights(own, role="attn.q") == (2.0,)


def test_aliases_and_text_that_is_a_number_are_read() -> None:
    resolver = Resolver(Linear, "linear")
    shared = (ParameterSource({"lambda": "1e-5", "normalize": "off"}),)
    params = resolver.resolve(TensorPosition("x"), [ModelEntry("a", "x", (source(weight="0.5"),))], shared)
    assert (params.factor, params.normalize, params.weight) == (1e-5, False, (0.5,))


def test_equal_values_give_the_same_object_and_equal_looking_ones_do_not() -> None:
    class Loose(Params):
        mark: bool | int | str = 0

    resolver = Resolver(Loose, "loose")
    same = source(mark=1)
    first = resolver.resolve(TensorPosition("x"), [], (same,))
    assert resolver.resolve(TensorPosition("y"), [], (same,)) is first
    assert resolver.resolve(TensorPosition("y"), [], (source(mark=True),)).mark is True
    assert resolver.resolve(TensorPosition("y"), [], (source(mark="1"),)).mark == "1"


def test_a_model_may_take_part_twice_with_different_values() -> None:
    assert weights(source(weight=1), source(weight=2)) == (1.0, 2.0)


# ---- faults of one tensor ----------------------------------------------------------------------------------

LINEAR = """\
merge_method: linear
models:
  - model: m/a
    parameters: {weight: 1}
  - model: m/b
parameters: {rounds: [5, 10]}
"""


def test_vector_11_a_missing_parameter_names_the_model_and_the_first_tensor_once() -> None:
    document = parse_document(LINEAR, "c.yml")
    resolver = Resolver(Linear, "linear", document.place)
    problems = Collector()
    inputs = [
        ModelEntry("m/a", "x", (source(weight=1),), ("models", 0)),
        ModelEntry("m/b", "x", (), ("models", 1)),
    ]
    for name in ("first.weight", "second.weight"):
        with problems.collecting():
            resolver.resolve(TensorPosition(name), inputs)
    with pytest.raises(ConfigError, match=r"^c\.yml:5:5: missing required parameter 'weight'") as caught:
        problems.raise_any()
    assert caught.value.code == "E105"
    assert "of linear for model m/b (tensor 'first.weight')" in caught.value.what
    assert (
        caught.value.hint
        == "write 'parameters: {weight: …}' under the model, or at the top level for all models"
    )


def test_a_missing_shared_parameter_belongs_at_the_top_level() -> None:
    class Slerp(Params):
        t: float

    document = parse_document(LINEAR, "c.yml")
    with pytest.raises(
        ConfigError, match=r"c\.yml:1:15: missing required parameter 't' of slerp \(tensor 'x'\)"
    ):
        Resolver(Slerp, "slerp", document.place).resolve(TensorPosition("x"), [])


def test_what_lies_between_two_knots_must_fit_the_type_too() -> None:
    document = parse_document(LINEAR, "c.yml")
    resolver = Resolver(Linear, "linear", document.place)
    top = ParameterSource({"rounds": [5, 10]}, ("parameters",))
    inputs = [ModelEntry("m/a", "x", (source(weight=1),))]
    assert resolver.resolve(TensorPosition("x", 0.2), inputs, (top,)).rounds == 6
    message = (
        r"^c\.yml:6:22: parameter 'rounds' is 7.5; a whole number is expected "
        r"\(between two knots, at t = 0.5 for 'x'\)$"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        resolver.resolve(TensorPosition("x", 0.5), inputs, (top,))
    assert (caught.value.code, caught.value.tensor) == ("E104", "x")


def test_a_condition_on_several_parameters_is_told_with_the_method() -> None:
    class Two(Params):
        low: float = 0.0
        high: float = 1.0

        def model_post_init(self, context: object) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    with pytest.raises(ConfigError, match=r"^parameters of two: .*low is above high$") as caught:
        Resolver(Two, "two").resolve(TensorPosition("x"), [], (source(low=2),))
    assert caught.value.code == "E105"


def test_everything_wrong_with_a_tensor_is_told_together() -> None:
    inputs = [ModelEntry("a", "x"), ModelEntry("b", "x", (source(weight="half"),))]
    with pytest.raises(Problems) as caught:
        Resolver(Linear, "linear").resolve(TensorPosition("x"), inputs, (source(normalize=2),))
    assert [error.code for error in caught.value.errors] == ["E105", "E104", "E104"]


def test_filters_that_match_nothing_are_told() -> None:
    text = (
        "models: [{model: a, parameters: {weight: [{filter: '*.mlp.*', value: 1}, {filter: x, value: 2}]}}]"
    )
    document = parse_document(text, "c.yml")
    own = ParameterSource(
        {"weight": [{"filter": "*.mlp.*", "value": 1}, {"filter": "x", "value": 2}]},
        ("models", 0, "parameters"),
    )
    resolver = Resolver(Linear, "linear", document.place)
    resolver.resolve(TensorPosition("x"), [ModelEntry("a", "x", (own,))])
    assert resolver.idle_filters() == [
        "c.yml:1:52: the filter '*.mlp.*' matches no tensor; it is looked for literally: "
        "write 'glob:*.mlp.*' for a pattern"
    ]


def test_a_filter_that_is_near_a_part_of_a_name_is_corrected() -> None:
    own = ParameterSource({"weight": [{"filter": "q_porj", "value": 1}, {"value": 2}]}, ())
    resolver = Resolver(Linear, "linear")
    resolver.resolve(TensorPosition("layers.0.q_proj.weight"), [ModelEntry("a", "x", (own,))])
    assert resolver.idle_filters() == ["the filter 'q_porj' matches no tensor; did you mean 'q_proj'?"]


# ---- faults of a config ------------------------------------------------------------------------------------


def checked(shared: str, single: str = "{}") -> list[str]:
    document = parse_document(f"top: {shared}\none: {single}\n", "c.yml")
    sources = []
    for key in ("top", "one"):
        mapping = document.data[key]
        assert isinstance(mapping, dict)
        sources.append(ParameterSource(mapping, (key,)))
    try:
        check_parameters(Linear, "linear", sources[:1], sources[1:], document)
    except MergecoreError as error:
        return [f"{one.code} {one}" for one in (error.errors if isinstance(error, Problems) else [error])]
    return []


def test_right_parameters_are_not_complained_of() -> None:
    assert checked("{weight: 1, normalize: no, lambda: 2}", "{weight: [0, 1], density: {value: 0.5}}") == []


@pytest.mark.parametrize(
    ("shared", "single", "message"),
    [
        ("{wieght: 1}", "{}", "E109 c.yml:1:7: linear has no parameter 'wieght'; did you mean 'weight'?"),
        (
            "{zzz: 1}",
            "{}",
            "E109 c.yml:1:7: linear has no parameter 'zzz'. "
            "Hint: its parameters: weight, density, normalize, rounds, lambda",
        ),
        ("{factor: 1}", "{}", "E109 c.yml:1:7: linear has no parameter 'factor'. Hint: its parameters: "),
        (
            "{}",
            "{normalize: false}",
            "E109 c.yml:2:7: 'normalize' is a parameter of linear as a whole, not of one model. "
            "Hint: move it to the top-level parameters",
        ),
        (
            "{embed_slerp: true}",
            "{}",
            "E109 c.yml:1:7: 'embed_slerp' is obsolete. Hint: embeddings are merged",
        ),
        ("{weight: half}", "{}", "E104 c.yml:1:15: parameter 'weight' is 'half'; a number is expected"),
        (
            "{weight: [0, .nan]}",
            "{}",
            "E105 c.yml:1:19: parameter 'weight' is nan; a finite number is expected",
        ),
        (
            "{}",
            "{density: [{filter: x, value: [0, 2]}]}",
            "E105 c.yml:2:40: parameter 'density' is 2; a number from",
        ),
    ],
)
def test_a_parameter_that_would_not_be_read_is_told(shared: str, single: str, message: str) -> None:
    (found,) = checked(shared, single)
    assert found.startswith(message)


def test_all_faults_of_a_config_are_told_together() -> None:
    assert [one[:4] for one in checked("{wieght: 1, weight: .inf}", "{lambda: 1, density: x}")] == [
        "E109",
        "E105",
        "E109",
        "E104",
    ]
