"""Do mergecore and mergekit build the same mixtures of experts?  Tiny models, every tensor compared.

    python benchmarks/moe_peer.py --peer /path/to/mergekit-venv/bin/python

Of each family that both have, with several dense models, and for three ways to make routers: how many tensors are equal
bit by bit, and how far routers are apart at most.  Random routers differ, as the random numbers do.  mergekit runs the
base in bfloat16; here it is made to run it in float32, unless `--as-it-is`.  The numbers of the models are a formula
without rounding, so `--write-figures` can note for the tests what mergekit makes of them.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from torch import Tensor

FIGURES = Path(__file__).resolve().parent.parent / "tests/benchmarks/moe_peer.json"
CASES = (
    ("mixtral", "llama"),
    ("mixtral", "mistral"),
    ("mixtral", "llama-scaled"),
    ("qwen2_moe", "qwen2"),
    ("qwen2_moe", "llama"),
    ("qwen2_moe", "mistral"),
    ("qwen3_moe", "qwen3"),
    ("deepseek", "llama"),
)
"""Families of the output, and the dense models that they are made of."""
MODES = ("random", "cheap_embed", "hidden")
TITLES = {"mixtral": "Mixtral", "qwen2_moe": "Qwen MoE", "qwen3_moe": "Qwen3 MoE", "deepseek": "DeepSeek MoE"}
"""What mergekit calls the families."""
FUSED = ("mixtral", "qwen3_moe")
"""Families whose experts mergekit writes in one tensor."""
SHARED = ("qwen2_moe", "deepseek")
PROMPTS = ("the cat sat", "a dog ran", "if x is y", "def z")


IN_FLOAT32 = """
import torch, transformers
load = transformers.AutoModelForCausalLM.from_pretrained
def in_float32(*given, **named):
    return load(*given, **{**named, "torch_dtype": torch.float32})
transformers.AutoModelForCausalLM.from_pretrained = in_float32
from mergekit.scripts.moe import main
main()
"""


@dataclass(frozen=True)
class Compared:
    """Two builds of one mixture: tensors in all, those equal bit by bit, and how far routers are apart."""

    tensors: int
    equal: int
    names: tuple[str, ...]
    """Names that only one of both has."""
    routers: float
    """The largest difference of an element of a router or gate, of which rows have length 1."""


def write_model(folder: Path, name: str, seed: int) -> Path:
    """A dense model of tiny size whose numbers are multiples of 1/2048; the same everywhere."""
    import torch
    from tiny_gates import write_tokenizer
    from tiny_moe import DENSE, SIZES, quiet
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    keys: dict[str, Any] = {**SIZES, **DENSE[name]}
    with quiet():
        model: Any = AutoModelForCausalLM.from_config(CONFIG_MAPPING[keys.pop("model_type")](**keys))
        for number, one in enumerate(model.parameters()):
            places = torch.arange(one.numel()) * 7919 + 104729 * (number + 1) + 1299709 * seed
            drawn = (places % 2039).float() / 2048 - 0.5
            one.data = drawn.view(one.shape) + (1.0 if one.dim() == 1 else 0.0)
        model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def document(folder: Path, family: str, name: str, mode: str) -> dict[str, Any]:
    """A mixture of three experts, of which the second is halved, and of a shared one where the family has such."""
    models = [folder / f"{name}-{seed}" for seed in range(3)]
    for seed, one in enumerate(models):
        if not one.exists():
            write_model(one, name, seed)
    experts: list[dict[str, Any]] = [
        {"source_model": str(one), "positive_prompts": [text]}
        for one, text in zip(models, PROMPTS, strict=False)
    ]
    experts[1]["residual_scale"] = 0.5
    shared: dict[str, Any] = {"source_model": str(models[1]), "residual_scale": 0.1}
    shared |= {"positive_prompts": [PROMPTS[3]]} if family == "qwen2_moe" else {}
    return {
        "base_model": str(models[0]),
        "gate_mode": mode,
        "dtype": "float32",
        "architecture": TITLES[family],
        "experts": experts,
        **({"shared_experts": [shared]} if family in SHARED else {}),
    }


def ours(said: Mapping[str, Any], family: str, out: Path) -> dict[str, Tensor]:
    """The tensors of the mixture that mergecore makes, in the layout that mergekit writes."""
    import mergecore

    layout = "fused" if family in FUSED else "hub"
    return tensors_of(mergecore.merge({**said, "layout": layout}, out))


def theirs(said: Mapping[str, Any], peer: Path, out: Path, *, as_it_is: bool) -> dict[str, Tensor]:
    """The same of mergekit."""
    config = out.with_suffix(".yml")
    config.write_text(json.dumps(said))
    tool = [str(peer.with_name("mergekit-moe"))] if as_it_is else [str(peer), "-c", IN_FLOAT32]
    command = [*tool, str(config), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
    return tensors_of(out)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model by their names."""
    from safetensors.torch import load_file

    return {
        name: one for path in sorted(folder.glob("*.safetensors")) for name, one in load_file(path).items()
    }


def is_gate(name: str) -> bool:
    """Whether a tensor is made of prompts: a router, or the gate of a shared expert."""
    return name.endswith(("gate.weight", "shared_expert_gate.weight"))


def compared(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Compared:
    """Two builds of one mixture."""
    both = found.keys() & wanted.keys()
    equal = [name for name in both if found[name].equal(wanted[name])]
    apart = [float((found[name] - wanted[name]).abs().max()) for name in both if is_gate(name)]
    return Compared(len(wanted), len(equal), tuple(sorted(found.keys() ^ wanted.keys())), max(apart))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and numbers of all tensors that are not made of prompts."""
    found = hashlib.sha256()
    for name in sorted(name for name in tensors if not is_gate(name)):
        found.update(f"{name} {list(tensors[name].shape)} ".encode())
        found.update(tensors[name].float().numpy().astype("<f4").tobytes())
    return found.hexdigest()


def rows(peer: Path, work: Path, figures: dict[str, Any], *, as_it_is: bool) -> Iterator[tuple[str, ...]]:
    """A row of the table for each build; `figures` takes what the tests compare with."""
    for family, name in CASES:
        for mode in MODES:
            said = document(work, family, name, mode)
            label = f"{family}-{name}-{mode}"
            wanted = theirs(said, peer, work / f"{label}-peer", as_it_is=as_it_is)
            one = compared(ours(said, family, work / label), wanted)
            gates = {key: tensor for key, tensor in wanted.items() if is_gate(key)}
            figures[label] = {"digest": digest(wanted), "tensors": len(wanted)}
            if mode != "random":
                figures[label]["gates"] = {key: gates[key][:, :4].tolist() for key in sorted(gates)}
            apart = "" if mode == "random" else f"{one.routers:.0e}"
            counts = f"{one.equal} of {one.tensors}", f"{len(gates)}", " ".join(one.names)
            yield (family, name, mode, *counts, apart)


@click.command()
@click.option(
    "--peer", type=click.Path(exists=True, path_type=Path), required=True, help="Python of mergekit."
)
@click.option("--write-figures", is_flag=True, help=f"Write what mergekit makes into {FIGURES.name}.")
@click.option("--as-it-is", is_flag=True, help="Let mergekit run the base in bfloat16, as it does.")
def main(peer: Path, write_figures: bool, as_it_is: bool) -> None:
    """Print a line for each mixture."""
    from benchmarks.pages import table

    head = ("family", "dense models", "gate_mode", "equal tensors", "routers", "odd names", "routers apart")
    figures: dict[str, Any] = {}
    with TemporaryDirectory() as work:
        click.echo(table(head, rows(peer, Path(work), figures, as_it_is=as_it_is)))
    if write_figures and not as_it_is:
        FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
