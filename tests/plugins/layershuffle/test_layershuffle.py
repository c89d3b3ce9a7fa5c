"""A model whose layers are drawn from several models: by the seed alone, and written down layer by layer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from fixture_types import Cli
from refusals import refused
from tiny import read_config, read_tensors, registry, write_llama

from mergecore import merge, plan
from mergecore.types import Json
from mergecore.types.plans import PlanOptions
from mergecore_plugins.layershuffle.drawing import drawn, drawn_freely, runs

DEPTHS = {"a": 6, "b": 6, "c": 4}
VALUES = {"a": 1.0, "b": 2.0, "c": 3.0}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Llamas all of whose numbers are 1, 2 and 3, of which the third has fewer layers."""
    monkeypatch.chdir(tmp_path)
    for name, depth in DEPTHS.items():
        write_llama(tmp_path / name, depth, VALUES[name])


def shuffle(weights: dict[str, float], *, full_random: bool = False, **more: Json) -> dict[str, Json]:
    listed: list[Json] = [{"model": name, "weight": weight} for name, weight in weights.items()]
    return {"layershuffle": {"models": listed, "full_random": full_random}, **more}


def numbers(seed: int, purpose: str, count: int) -> list[float]:
    """What `mergecore-rng/1` says: Philox with a key of names, 24 bits of every 32."""
    text = "\0".join(("mergecore-rng/1", str(seed), "layershuffle", "", purpose))
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key, counter=2**256 - 1).random_raw(-(-count // 8) * 4).view(np.uint32)
    return [int(one) // 256 / 2**24 for one in raw[:count]]


def models_of_layers(out: Path) -> list[float]:
    """What the numbers of each layer of a model are."""
    found = read_tensors(out)
    return [
        float(found[f"model.layers.{i}.mlp.up_proj.weight"].unique())
        for i in range(int(str(read_config(out)["num_hidden_layers"])))
    ]


def recorded(out: Path) -> dict[str, Json]:
    """The config that the manifest of a model has."""
    found: dict[str, Json] = json.loads((out / "mergecore-manifest.json").read_text())["document"]
    return found


@pytest.mark.parametrize("seed", [0, 7, 123456])
def test_each_layer_is_that_of_a_model_drawn_by_its_weight(seed: int, cli: Cli) -> None:
    """Numbers below 0.25 choose a, the others b."""
    expected = [1.0 if one < 0.25 else 2.0 for one in numbers(seed, "model", 6)]
    done = cli("layershuffle", "out", "-m", "a", "-m", "b", "-w", "0.5", "-w", "1.5", "--seed", seed)
    assert done.code == 0, done.err
    assert models_of_layers(Path("out")) == expected
    found = read_tensors(Path("out"))
    assert float(found["model.embed_tokens.weight"].unique()) == expected[0]
    assert float(found["lm_head.weight"].unique()) == expected[-1]


def test_a_plan_says_what_was_not_drawn(cli: Cli) -> None:
    shown = cli("layershuffle", "-m", "a", "-m", "b", "--seed", "1", "--plan").out.splitlines()
    left = shown[shown.index("not in the output") + 1 :]
    told = {line.rpartition("): ")[2] for line in left if line.startswith("  ")}
    assert told == {
        "their layers were not drawn",
        "what comes before the first layer is of the model that gives that layer",
        "what comes behind the last layer is of the model that gives that layer",
    }


def test_layers_of_all_depths_are_drawn_freely_and_put_in_any_order(cli: Cli) -> None:
    """Half of the layers of a and three quarters of those of c: 3 of each, and c has only the layers 0 to 3."""
    layers = drawn_freely([6, 4], [0.5, 0.75], 5)
    first = [int(one * 6) for one in numbers(5, "layers of 0", 3)]
    second = [int(one * 4) for one in numbers(5, "layers of 1", 3)]
    assert sorted(layers) == sorted([*((0, one) for one in first), *((1, one) for one in second)])
    assert layers != [*((0, one) for one in first), *((1, one) for one in second)]
    document = shuffle({"a": 0.5, "c": 0.75}, full_random=True, seed=5)
    out = merge(document, "out", registry=registry())
    assert models_of_layers(out) == [1.0 if model == 0 else 3.0 for model, _ in layers]
    assert recorded(out)["seed"] == 5


def test_all_orders_are_equally_likely() -> None:
    """Three layers of one model: each of six orders of what was drawn, and each of three layers in each place."""
    found = Counter((0, layer) for seed in range(600) for layer in [drawn_freely([3], [1], seed)[0][1]])
    assert all(150 < count < 250 for count in found.values())
    orders = Counter(
        tuple(model for model, _ in drawn_freely([1, 1, 1], [1, 1, 1], seed)) for seed in range(1200)
    )
    assert len(orders) == 6
    assert all(150 < count < 250 for count in orders.values())


def test_models_are_drawn_as_often_as_their_weights_say() -> None:
    found = Counter(model for seed in range(100) for model, _ in drawn([32, 32], [0.2, 0.8], seed))
    assert found[0] + found[1] == 3200
    assert 560 < found[0] < 720  # 640, and 23 to either side is one standard deviation
    assert drawn([4, 4], [0, 1], 0) == [(1, 0), (1, 1), (1, 2), (1, 3)]


def test_a_layer_that_a_model_lacks_comes_from_another() -> None:
    for seed in range(20):
        assert {model for model, layer in drawn([6, 4], [1, 1], seed) if layer > 3} == {0}


def test_layers_that_follow_each_other_are_one_slice() -> None:
    assert runs([(0, 0), (0, 1), (1, 2), (1, 4), (1, 5), (0, 6)]) == [
        (0, 0, 2),
        (1, 2, 3),
        (1, 4, 6),
        (0, 6, 7),
    ]


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_layers(cli: Cli) -> None:
    words = ("-m", "a", "-m", "b")
    for out, seed, threads in (("one", 1, 1), ("two", 1, 2)):
        assert cli("layershuffle", out, *words, "--seed", seed, "--threads", threads).code == 0
    assert Path("one/model.safetensors").read_bytes() == Path("two/model.safetensors").read_bytes()
    drawings = {tuple(drawn([6, 6], [1, 1], seed)) for seed in range(20)}
    assert len(drawings) > 15


def test_the_card_and_the_manifest_have_the_config_that_makes_it_again(cli: Cli) -> None:
    assert cli("layershuffle", "out", "-m", "a", "-m", "b", "--seed", "3", "--dtype", "bfloat16").code == 0
    text = Path("out/README.md").read_text().split("```yaml\n")[1].split("```")[0]
    config = yaml.safe_load(text)
    assert config["merge_method"] == "passthrough"
    assert config["x-layershuffle"] == {
        "models": [{"model": "a", "weight": 1.0}, {"model": "b", "weight": 1.0}],
        "full_random": False,
    }
    Path("again.yml").write_text(text)
    assert cli("merge", "again.yml", "again").code == 0
    assert Path("again/model.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()
    assert recorded(Path("out"))["slices"] == config["slices"]


def test_the_plan_shows_the_layers_that_are_drawn(cli: Cli) -> None:
    shown = cli("layershuffle", "-m", "a", "-m", "b", "--plan").out
    assert "layers model.layers.*" in shown
    assert "6 layers in all" in shown
    Path("c.yml").write_text(yaml.safe_dump(shuffle({"a": 1, "b": 1})))
    assert cli("plan", "c.yml").out == shown
    assert cli("plan", "c.yml", "--seed", "8").out != shown


def test_config_and_side_files_are_those_of_the_first_model_whatever_is_drawn() -> None:
    for seed in range(4):
        made = plan(shuffle({"b": 1, "a": 1}), registry=registry(), options=PlanOptions(seed=seed))
        assert made.models[made.primary].name == "b"
        assert made.seed == seed


# ---- as mergekit has it ------------------------------------------------------------------------------------


def test_the_options_of_mergekit_layershuffle_are_understood(cli: Cli) -> None:
    words = [
        "out",
        "--model",
        "a",
        "--model",
        "b",
        "--weight",
        "0.5",
        "--weight",
        "0.5",
        "--fp16",
        "--full-random",
    ]
    words += [
        "--random-seed",
        "4",
        "--print-yaml",
        "--write-yaml",
        "shuffle.yml",
        "--cuda",
        "--copy-tokenizer",
    ]
    words += ["--out-shard-size", "1B", "--device", "cuda"]
    done = cli("layershuffle", *words)
    assert done.code == 0, done.err
    assert "mergecore: --fp16 is --dtype float16 here" in done.err
    assert "--device has no effect: layers are copied, so there is nothing to compute" in done.err
    config = yaml.safe_load(Path("shuffle.yml").read_text())
    assert config["dtype"] == "float16"
    assert len(config["slices"]) <= 6
    assert cli("merge", "shuffle.yml", "again").code == 0
    assert Path("again/model.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()


def test_a_dry_run_prints_the_config_and_makes_nothing(cli: Cli) -> None:
    done = cli("layershuffle", "out", "-m", "a", "-m", "b", "--dry-run", "--print-yaml")
    assert done.code == 0
    assert yaml.safe_load(done.out)["merge_method"] == "passthrough"
    assert not Path("out").exists()


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            shuffle({"c": 0, "a": 0}),
            "E105 no model with a weight has a layer 0, and the first model has 4 layers. Hint: give the first model a "
            "weight, or list a shorter one first",
        ),
        (
            shuffle({"a": 0, "c": 1}),
            "E105 no model with a weight has a layer 4, and the first model has 6 layers. Hint: give the first model a "
            "weight, or list a shorter one first",
        ),
        (
            shuffle({"a": 0.1, "b": 0.1}, full_random=True),
            "E105 the shares give no layer: of each model, its number of layers times its weight is taken. Hint: write "
            "larger weights, such as 0.5",
        ),
        (shuffle({"./none": 1}), "E701 './none': no such directory"),
        (shuffle({"a": -1}), "E105 'layershuffle.models.weight' is -1; a number of at least 0.0 is expected"),
        ({"layershuffle": {"models": []}}, "E104 no models are listed to draw from. Hint: write '- model: NAME'"),
        (shuffle({"a": 1}, merge_method="linear"), "E103 "),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(document: dict[str, Json], message: str) -> None:
    (error,) = refused(document)
    assert error.startswith(message)


def test_a_model_without_layers_is_refused() -> None:
    from safetensors.torch import save_file
    from torch import ones

    Path("flat").mkdir()
    save_file({"w": ones(2)}, "flat/model.safetensors")
    (error,) = refused(shuffle({"./flat": 1}))
    assert error.endswith(
        "'./flat': its tensors do not tell which of them are the layers. Hint: name a model whose layers are numbered, "
        "in one stack"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "a"], "give the folder OUT, or --plan or --print-config"),
        (["out", "-m", "a", "-m", "b", "-w", "1"], "--weight is given 1 time, --model 2 times"),
    ],
)
def test_a_command_line_that_says_too_little_is_refused(words: Sequence[str], message: str, cli: Cli) -> None:
    done = cli("layershuffle", *words)
    assert done.code == 2
    assert f"error E115: {message}" in done.err


def test_a_config_that_cannot_be_written_is_an_error(cli: Cli) -> None:
    for file, why in (("nowhere/again.yml", "No such file or directory"), (".", "Is a directory")):
        done = cli("layershuffle", "-m", "a", "-m", "b", "--print-config", "--write-config", file)
        assert done.code == 6, done.err
        assert (
            f"error E505: {file}: the config cannot be written: {why}. Hint: choose another file" in done.err
        )
