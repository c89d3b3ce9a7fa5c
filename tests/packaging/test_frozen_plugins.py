"""Plugins written against earlier versions work with this one, and make the same bytes; see `tests/frozen`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from baked_plugins import Environment, build_wheel
from fixture_types import Outcome
from safetensors.torch import load_file
from tiny import llama, llama_config, write_checkpoint

pytestmark = pytest.mark.slow

FROZEN = Path(__file__).parents[1] / "frozen"
DIGESTS: Mapping[str, Mapping[str, str]] = json.loads((FROZEN / "digests.json").read_text(encoding="utf8"))
"""Of every frozen file, and of the files of weights that each of the configs makes: they do not change either."""

MODELS = ("base", "left", "right")


def averaged(prefix: str) -> dict[str, object]:
    entries = [{"model": f"{prefix}{one}", "parameters": {"weight": 0.5}} for one in MODELS]
    return {"merge_method": "linear", "models": entries, "parameters": {"normalize": False}}


CONFIGS: Mapping[str, Mapping[str, object]] = {
    "method": {
        "merge_method": "firm",
        "base_model": "./base",
        "models": [
            {"model": "./left", "parameters": {"weight": [{"filter": "mlp", "value": 2}, {"value": 0.5}]}},
            {"model": "./right", "parameters": {"density": [0.25, 1.0]}},
        ],
        "parameters": {"lambda": 0.5},
        "seed": 7,
        "dtype": "float32",
    },
    "source": averaged("halved:"),
    "writer": {
        **averaged("./"),
        "name": "frozen",
        "output": {"writer": "rows", "shard_size": 600, "ending": "r"},
    },
}


def write_models(folder: Path) -> None:
    """Llamas of two layers, in numbers that every machine computes alike: multiples of 1/64."""
    for number, name in enumerate(MODELS):
        tensors = {
            tensor: counted(tuple(one.shape), 1 + number + 3 * place)
            for place, (tensor, one) in enumerate(llama(2).items())
        }
        write_checkpoint(folder / name, tensors, llama_config(2))


def counted(shape: tuple[int, ...], start: int) -> torch.Tensor:
    numbers = torch.arange(torch.Size(shape).numel()) * 37 + 11 * start
    return ((numbers % 101 - 50) / 64).reshape(shape).to(torch.float32)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with mergecore and the frozen plugins."""
    folder = tmp_path_factory.mktemp("frozen")
    environment = Environment(folder / "environment")
    projects = sorted(path.parent for path in FROZEN.glob("*/pyproject.toml"))
    environment.install(wheel, *(build_wheel(one, folder / "dist" / one.name) for one in projects))
    return environment


def test_the_frozen_files_are_what_they_were() -> None:
    found = {
        path.relative_to(FROZEN).as_posix(): digest(path.read_bytes())
        for path in sorted(FROZEN.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.parent != FROZEN
    }
    assert found == DIGESTS["sources"], "these must not be edited: see tests/frozen/README.md"


def test_frozen_plugins_are_active_and_make_the_bytes_that_they_made(
    installed: Environment, tmp_path: Path
) -> None:
    write_models(tmp_path)
    lines: list[tuple[Path, dict[str, str], list[str]]] = [(tmp_path, {}, ["plugins", "list", "--json"])]
    for name, config in CONFIGS.items():
        (tmp_path / f"{name}.yml").write_text(json.dumps(config))
        lines += [(tmp_path, {}, ["merge", f"{name}.yml", name]), (tmp_path, {}, ["verify", name])]
    slip = {**CONFIGS["method"], "parameters": {"lamda": 1, "drop": 1}}
    (tmp_path / "slip.yml").write_text(json.dumps(slip))
    lines.append((tmp_path, {}, ["plan", "slip.yml"]))

    listed, *others, slipped = installed.mergecore(lines)

    check_list(listed)
    for outcome in others:
        assert outcome.code == 0, outcome.err
    assert "firm has no parameter 'lamda'; did you mean 'lambda'?" in slipped.err
    assert "parameter 'drop' is 1; a number at least 0 and below 1 is expected" in slipped.err
    assert made(tmp_path) == DIGESTS["made"]


def check_list(listed: Outcome) -> None:
    found = [one for one in json.loads(listed.out) if one["distribution"].startswith("mergecore-")]
    states = {one["name"]: (one["status"], one["reason"]) for one in found}
    assert states == dict.fromkeys(("firm", "halved", "rows"), ("active", ""))


def made(folder: Path) -> dict[str, str]:
    """Digests of the weights: of each tensor where mergecore writes the file, of whole files where the plugin does."""
    digests: dict[str, str] = {}
    for name in ("method", "source"):
        tensors = load_file(folder / name / "model.safetensors")
        digests |= {
            f"{name}/{tensor}": digest(tensors[tensor].numpy().tobytes()) for tensor in sorted(tensors)
        }
    files = sorted([*(folder / "writer").glob("*.r"), folder / "writer" / "rows.json"])
    return digests | {f"writer/{path.name}": digest(path.read_bytes()) for path in files}


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()
