"""Models whose weights fit, and mean something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergecore.planning.config_differences import differences
from mergecore.types import Checkpoint, Json, ModelReference


def model(name: str, **config: Json) -> Checkpoint:
    return Checkpoint(ModelReference(name), Path(), {}, (), config)


def test_what_changes_the_meaning_of_weights_is_told() -> None:
    base = model("base", num_attention_heads=4, rope_parameters={"rope_theta": 1e4, "rope_type": "default"})
    other = model("other", num_attention_heads=8, rope_parameters={"rope_theta": 5e5, "rope_type": "default"})
    assert list(differences([base, other], base)) == [
        "the weights of base and other may not mean the same, their configs differ: num_attention_heads 4 and 8, "
        "rope_parameters.rope_theta 10000.0 and 500000.0; the config of base is written"
    ]


@pytest.mark.parametrize(
    ("key", "ours", "theirs"),
    [
        ("vocab_size", 10, 12),
        ("eos_token_id", 1, 2),
        ("num_hidden_layers", 2, 3),
        ("layer_types", ["a"], ["b"]),
        ("transformers_version", "4.57", "5.0"),
        ("torch_dtype", "float32", "bfloat16"),
        ("attention_dropout", 0.1, 0.0),
        ("use_cache", True, False),
        ("_name_or_path", "a", "b"),
        ("hidden_size", 8, 8),
    ],
)
def test_what_does_not_is_not(key: str, ours: Json, theirs: Json) -> None:
    base = model("base", **{key: ours})
    assert not list(differences([model("other", **{key: theirs})], base))


def test_what_one_config_leaves_to_the_default_is_not_compared() -> None:
    assert not list(differences([model("other", rope_theta=1e4)], model("base", head_dim=4)))


def test_many_differences_are_counted() -> None:
    base, other = (model(name, **{f"size_{i}": value for i in range(9)}) for value, name in enumerate("ab"))
    (told,) = differences([other], base)
    assert "size_5 0 and 1 and 3 more; the config of a is written" in told
