"""The smallest plugin of the tutorial, 20 lines of Python and 6 of TOML, and what it gets without a word about it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from baked_plugins import run
from fixture_types import Cli
from refusals import interrupt
from small_output import contents
from tiny import llama, llama_config, read_tensors, write_checkpoint

from mergecore.types import Json

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-method.md"
LAYERS = 3


def block(language: str) -> str:
    """The first snippet of the page in that language."""
    found = re.search(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf8"), re.DOTALL | re.MULTILINE
    )
    assert found
    return found[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the plugin."""
    folder = tmp_path_factory.mktemp("smallest")
    (folder / "mergecore_agree.py").write_text(block("python"), encoding="utf8")
    (folder / "pyproject.toml").write_text(block("toml"), encoding="utf8")
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", folder / "site")
    done = run(sys.executable, "-m", "pip", "install", *options, folder)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(autouse=True)
def _workplace(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin is installed; the current folder holds a base and two models whose differences to it are 2 and 4."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    base = llama(LAYERS, 1.0)
    for name, difference in (("base", 0.0), ("a", 2.0), ("b", 4.0)):
        write_checkpoint(
            Path(name), {key: one + difference for key, one in base.items()}, llama_config(LAYERS)
        )
    yield
    sys.modules.pop("mergecore_agree", None)


def config(models: str = "ab", **parameters: Json) -> dict[str, Json]:
    entries: list[Json] = [{"model": f"./{model}"} for model in models]
    return {"merge_method": "agree", "base_model": "./base", "models": entries, "parameters": parameters}


def write(document: Mapping[str, Json]) -> Path:
    Path("config.yml").write_text(json.dumps(document))
    return Path("config.yml")


def merged(cli: Cli, document: Mapping[str, Json], *options: str) -> dict[str, torch.Tensor]:
    done = cli("merge", write(document), "out", "--overwrite", *options)
    assert done.code == 0, done.err
    return read_tensors(Path("out"))


def only(one: torch.Tensor) -> float:
    [number] = one.unique().tolist()
    return float(number)


# ---- small -------------------------------------------------------------------------------------------------


def test_it_is_small() -> None:
    assert len(block("python").splitlines()) <= 20
    assert len(block("toml").splitlines()) <= 6


def test_it_does_what_it_says(cli: Cli) -> None:
    up = "model.layers.0.mlp.up_proj.weight"
    tensors = llama(LAYERS, 1.0)
    tensors[up][0, 0] = 0.0  # its difference to the base is -1, that of `a` is 2
    write_checkpoint(Path("b"), tensors, llama_config(LAYERS))
    result = merged(cli, config())[up]
    assert only(result[1:]) == 1.0  # one of the models is as the base: no sign to agree on
    assert result[0, 0] == 1.0
    assert only(merged(cli, config("a"))[up]) == 3.0


# ---- what it gets for nothing ------------------------------------------------------------------------------


def test_gradients(cli: Cli) -> None:
    tensors = merged(cli, config(scale=[0, 2]))
    # 1 + (2 + 4) / 2 times 0, 1 and 2
    assert [only(tensors[f"model.layers.{layer}.mlp.up_proj.weight"]) for layer in range(LAYERS)] == [1, 4, 7]


def test_filters(cli: Cli) -> None:
    tensors = merged(
        cli, config(scale=[{"filter": "mlp", "value": 2}, {"filter": "role:norm", "value": 0}, {"value": 1}])
    )
    names = ("mlp.up_proj", "input_layernorm", "self_attn.q_proj")
    assert [only(tensors[f"model.layers.1.{name}.weight"]) for name in names] == [7, 1, 4]


def test_ranges_and_suggestions(cli: Cli) -> None:
    assert "config.yml:1" in (err := cli("plan", write(config(scale=3))).err)
    assert "parameter 'scale' is 3; a number from 0 to 2 is expected" in err
    assert "agree has no parameter 'scael'; did you mean 'scale'?" in cli("plan", write(config(scael=1))).err
    assert "did you mean 'agree'?" in cli("plan", write({**config(), "merge_method": "agre"})).err
    lacking = {key: value for key, value in config().items() if key != "base_model"}
    assert "error E110" in cli("plan", write(lacking)).err


def test_streaming_in_memory_that_does_not_grow(cli: Cli) -> None:
    """A tensor of 17 blocks, and one of 4 times as many: the plan asks for the same memory."""
    peaks = []
    for rows in (17, 68):
        for seed, name in enumerate(("base", "a", "b")):
            generator = torch.Generator().manual_seed(seed)
            write_checkpoint(Path(name), {"w": torch.randn(rows * 256, 1024, generator=generator)})
        shown = json.loads(cli("plan", write(config()), "--json").out)
        peaks.append(shown["peak_memory"])
    assert peaks[0] == peaks[1]
    assert peaks[0] < shown["bytes"] * 3 + 200e6

    base, a, b = (read_tensors(Path(name))["w"].double() for name in ("base", "a", "b"))
    kept = torch.sign(a - base) == torch.sign(b - base)
    exact = torch.where(kept, (a + b) / 2, base)
    assert torch.allclose(merged(cli, config())["w"].double(), exact, rtol=0, atol=1e-6)


def test_threads_change_no_byte(cli: Cli) -> None:
    cli("merge", write(config(scale=[0, 2])), "one", "-j", "1")
    cli("merge", write(config(scale=[0, 2])), "four", "-j", "4")
    cli("merge", write(config(scale=[0, 2])), "apart", "--executor", "processes")
    assert contents(Path("one")) == contents(Path("four")) == contents(Path("apart"))


def test_an_interrupted_merge_goes_on_to_the_same_bytes(cli: Cli) -> None:
    cli("merge", write(config()), "whole")
    interrupt(config(), Path("out").absolute())
    assert not Path("out").exists()
    assert cli("merge", "config.yml", "out", "--resume").code == 0
    assert contents(Path("out"))["model.safetensors"] == contents(Path("whole"))["model.safetensors"]


def test_docs(cli: Cli) -> None:
    shown = cli("methods", "show", "agree").out
    for text in (
        "agree: The mean of the differences to the base, where all models agree on the sign.",
        "needs      base_model and 1 or more models; works on differences to the base",
        "scale        number in [0, 2], shared, default 1.0\n                 factor of the mean",
        "comes with mergecore-agree 0.1.0",
    ):
        assert text in shown
    assert "  agree " in cli("methods", "list").out
    assert '"factor of the mean"' in cli("schema").out
    assert "agree" in cli("plugins", "list").out
    merged(cli, config())
    assert "agree" in Path("out/README.md").read_text(encoding="utf8")


def test_adapters_executors_and_outputs_of_others_need_no_word_of_it(cli: Cli) -> None:
    """The result in bfloat16 and in shards, of one tensor each, and checked again byte by byte."""
    cli("merge", write({**config(), "dtype": "bfloat16"}), "out", "--shard-size", "100")
    assert len([*Path("out").glob("*.safetensors")]) > LAYERS
    assert {one.dtype for one in read_tensors(Path("out")).values()} == {torch.bfloat16}
    assert cli("verify", "out").code == 0
