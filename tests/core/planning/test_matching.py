"""Which tensors of the models make which tensor of the output."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mergecore.config.parameters.resolver import ParameterSource
from mergecore.planning.opened import OpenedModels
from mergecore.planning.tensors.matching import LACKED, Match, Slice, SliceInput, dropped, match
from mergecore.types import Checkpoint, ModelReference, Stored, TensorInfo
from mergecore_architectures.names import describe


def models(*names: Iterable[str], primary: int = 0) -> OpenedModels:
    """Models with tensors of these names; what is read from names alone is known of them."""
    checkpoints = [
        Checkpoint(
            ModelReference(f"m{i}"),
            Path("m"),
            {
                name: TensorInfo(name, Stored(name, "F32", (8, 4) if "embed" in name else (4,), Path("f"), 0))
                for name in one
            },
            (),
            {"vocab_size": 8, "tie_word_embeddings": True, "num_hidden_layers": 2},
        )
        for i, one in enumerate(names)
    ]
    return OpenedModels(tuple(checkpoints), tuple(map(describe, checkpoints)), primary)


def slice_of(*parts: tuple[int, range | None], base: tuple[int, range | None] | None = None) -> Slice:
    made = [SliceInput(model, layers, ParameterSource({})) for model, layers in parts]
    return Slice(tuple(made), SliceInput(*base, ParameterSource({})) if base else None, ())


def whole(*of: int) -> Slice:
    return slice_of(*((model, None) for model in of))


def layers(prefix: str, count: int, *parts: str) -> list[str]:
    return [f"{prefix}{i}.{part}.weight" for i in range(count) for part in parts or ("up", "down", "norm")]


def outputs(found: Match) -> list[str]:
    return [target.name for target in found.targets]


def inputs(found: Match, name: str) -> list[str | None]:
    """The tensors for an output, the base last."""
    target = next(target for target in found.targets if target.name == name)
    return [one.name if one else None for one in (*target.inputs, target.base)]


EMBED, NORM = "model.embed_tokens.weight", "model.norm.weight"
TWO = [NORM, *reversed(layers("model.layers.", 2)), EMBED]
"""A model that is stored in an odd order."""


def test_tensors_are_ordered_as_they_are_applied() -> None:
    found = match(models(TWO), [whole(0)])
    assert outputs(found)[0] == EMBED
    assert outputs(found)[-1] == NORM
    assert [name.split(".")[2] for name in outputs(found)[1:-1]] == ["0"] * 3 + ["1"] * 3


def test_each_stack_has_its_own_depth() -> None:
    found = match(models([*layers("encoder.layer.", 2), *layers("decoder.layer.", 3)]), [whole(0)])
    depths = {target.name: target.depth for target in found.targets}
    assert [depths[f"encoder.layer.{i}.up.weight"].t for i in range(2)] == [0, 1]  # type: ignore[union-attr]
    assert [depths[f"decoder.layer.{i}.up.weight"].t for i in range(3)] == [0, 0.5, 1]  # type: ignore[union-attr]


def test_the_names_of_the_donor_come_first_and_those_of_others_after_them() -> None:
    found = match(models(["a", "b"], ["c", "b"], primary=1), [whole(0, 1)])
    assert outputs(found) == ["c", "b", "a"]
    assert inputs(found, "b") == ["b", "b", None]
    assert (found.missing, found.unexpected) == ({0: {"c": None}}, {0: {"a": None}})


def test_a_base_in_delta_space_stands_beside_the_others() -> None:
    found = match(models(["a"], ["a"]), [slice_of((1, None), base=(0, None))])
    assert inputs(found, "a") == ["a", "a"]


def test_a_missing_tensor_is_noted_once_for_its_model() -> None:
    found = match(models(TWO, [name for name in TWO if "up" not in name]), [whole(0, 1)])
    assert found.missing == {1: {f"model.layers.{i}.up.weight": None for i in range(2)}}
    both = [slice_of((0, range(1)), (1, range(1))), slice_of((1, range(1)), (0, range(1)))]
    found = match(models(TWO, [name for name in TWO if "up" not in name]), both)
    assert list(found.missing[1]) == ["model.layers.0.up.weight", "model.layers.1.up.weight"]


def test_a_tied_tensor_stands_for_the_one_that_is_not_stored() -> None:
    tied, untied = TWO, [*TWO, "lm_head.weight"]
    assert inputs(match(models(tied, untied), [whole(0, 1)]), "lm_head.weight") == [
        EMBED,
        "lm_head.weight",
        None,
    ]
    assert inputs(match(models(untied, tied), [whole(0, 1)]), "lm_head.weight") == [
        "lm_head.weight",
        EMBED,
        None,
    ]
    assert "lm_head.weight" not in outputs(match(models(tied, tied), [whole(0, 1)]))


def test_layers_are_counted_anew_and_matched_by_their_inner_names() -> None:
    other = [name.replace("model.layers", "h") for name in TWO]
    found = match(models(TWO, other), [slice_of((0, range(2))), slice_of((1, range(1, 2)), (0, range(1)))])
    assert found.layers == {"model.layers.": [(0, 0), (0, 1), (1, 1)]}
    assert inputs(found, "model.layers.2.up.weight") == ["h.1.up.weight", "model.layers.0.up.weight", None]
    assert len(outputs(found)) == len(set(outputs(found))) == 2 + 9


def test_positions_begin_anew_in_each_slice() -> None:
    found = match(models(TWO), [slice_of((0, range(2))), slice_of((0, range(1, 2)))])
    ups = [target for target in found.targets if target.name.endswith("up.weight")]
    assert [target.depth.t for target in ups if target.depth] == [0, 1, 1]
    assert [target.depth for target in found.targets if target.name in (EMBED, NORM)] == [None, None]


def test_what_no_output_takes_has_a_reason() -> None:
    three = models(TWO, [*TWO, "extra"], TWO)
    slices = [slice_of((0, range(1))), slice_of((1, range(1, 2)))]
    used = [
        (0, EMBED),
        (1, NORM),
        *((0, name) for name in TWO if ".0." in name),
        *((1, name) for name in TWO if ".1." in name),
    ]
    found = {(one.model, one.reason): list(one.names) for one in dropped(three, slices, used)}
    assert found == {
        (0, "tensors outside the layers come from the last slice"): [NORM],
        (0, "no slice takes this layer"): [name for name in TWO if ".1." in name],
        (1, "no slice takes this layer"): [name for name in TWO if ".0." in name],
        (1, "tensors outside the layers come from the first slice"): [EMBED, "extra"],
        (2, "the model gives config and side files only"): TWO,
    }


def test_what_is_left_of_whole_models_is_unexpected() -> None:
    found = dropped(models(["a"], ["a", "x"], ["x"]), [whole(0, 1, 2)], [(0, "a"), (1, "a"), (1, "x")])
    assert [(one.model, one.names, one.reason) for one in found] == [(2, ("x",), "another model gives it")]
    found = dropped(models(["a"], ["a", "x"]), [whole(0, 1)], [(0, "a"), (1, "a")])
    assert [(one.model, one.names, one.reason) for one in found] == [(1, ("x",), LACKED)]


# ---- layers that predict further tokens --------------------------------------------------------------------

AHEAD = [*layers("model.layers.", 3), "model.layers.2.eh_proj.weight", EMBED, NORM]
"""Two layers, and one behind them that predicts a further token."""


def test_layers_ahead_stay_behind_the_others() -> None:
    found = match(models(AHEAD), [slice_of((0, range(2))), slice_of((0, range(1)))])
    assert found.layers == {"model.layers.": [(0, 0), (0, 1), (0, 0)]}
    assert inputs(found, "model.layers.3.eh_proj.weight") == ["model.layers.2.eh_proj.weight", None]
    assert inputs(found, "model.layers.3.up.weight") == ["model.layers.2.up.weight", None]
    assert outputs(found)[-1] == NORM
    everything = match(models(AHEAD), [whole(0)])
    assert {target.name: target.depth for target in everything.targets}["model.layers.2.up.weight"] is None


def test_layers_ahead_are_matched_behind_models_of_any_depth() -> None:
    other = [*layers("model.layers.", 4), "model.layers.3.eh_proj.weight", EMBED, NORM]
    two = models(AHEAD, other)
    checkpoint = two.checkpoints[1]
    deeper = Checkpoint(
        checkpoint.reference,
        checkpoint.folder,
        checkpoint.tensors,
        (),
        {"num_hidden_layers": 3, "vocab_size": 8},
    )
    both = OpenedModels((two.checkpoints[0], deeper), (two.descriptions[0], describe(deeper)), 0)
    found = match(both, [slice_of((0, range(2)), (1, range(1, 3)))])
    assert inputs(found, "model.layers.1.up.weight") == [
        "model.layers.1.up.weight",
        "model.layers.2.up.weight",
        None,
    ]
    assert inputs(found, "model.layers.2.eh_proj.weight") == [
        "model.layers.2.eh_proj.weight",
        "model.layers.3.eh_proj.weight",
        None,
    ]
    assert (found.missing, found.unexpected) == ({}, {})


def test_a_model_without_layers_ahead_lacks_them() -> None:
    found = match(models(AHEAD, TWO), [slice_of((0, range(2)), (1, range(2)))])
    assert list(found.missing[1]) == [
        name.replace("layers.2", "layers.2") for name in AHEAD if "layers.2" in name
    ]
