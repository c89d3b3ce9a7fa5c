"""What does it cost to merge an adapter?  CPU and memory beside a plain copy of the same model.

    python benchmarks/adapters.py --parameters 1.2B --rank 16

A Llama-shaped bf16 base with an adapter on every linear layer is merged, and the base is copied by the same engine
(`passthrough`), in turn; each in a process of its own with one worker.  CPU of the start, of a merge of nothing, is
taken off.  Anonymous memory is the peak of the process without the page cache.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.checkpoints import LlamaShape, parse_count, shape_for, write_set

SMALL = LlamaShape(
    hidden=64, intermediate=128, layers=1, heads=2, key_value_heads=2, vocabulary=64, tied=False
)
MEASURED = """
import sys, resource
import mergecore
mergecore.merge({"merge_method": "passthrough", "models": [{"model": sys.argv[1]}]}, sys.argv[2],
                run_options=mergecore.RunOptions(threads=1, overwrite=True))
for line in open("/proc/self/status"):
    if line.startswith(("VmHWM", "RssFile")):
        print(line.split()[1])
"""


@click.command()
@click.option("--parameters", default="1.2B", show_default=True)
@click.option("--rank", default=16, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--workdir", type=click.Path(path_type=Path), help="Keeps the models; a temporary folder else.")
def main(parameters: str, rank: int, repeats: int, workdir: Path | None) -> None:
    """Print a line for each: copy and merge, CPU in seconds and ns per parameter, memory."""
    with tempfile.TemporaryDirectory(dir=workdir) as temporary:
        folder = Path(temporary)
        shape = shape_for(parse_count(parameters))
        base = write_set(folder / "models", shape, models=1).base
        small = write_set(folder / "small", SMALL, models=1).base
        write_adapter(folder / "adapter", shape, rank)
        start = min(measured(str(small), folder / "out")[0] for _ in range(repeats))
        found: dict[str, list[tuple[float, float]]] = {"copy": [], "merge": []}
        for _ in range(repeats):
            found["copy"].append(measured(str(base), folder / "out"))
            found["merge"].append(measured(f"{base}+{folder / 'adapter'}", folder / "out"))
        best = {name: min(cpu for cpu, _ in runs) - start for name, runs in found.items()}
        for name, runs in found.items():
            memory = max(peak for _, peak in runs)
            per = best[name] * 1e9 / shape.parameters()
            click.echo(f"{name}: {best[name]:.2f} s of CPU, {per:.2f} ns a parameter, peak {memory:.0f} MB")
        click.echo(f"merge / copy: {best['merge'] / best['copy']:.2f}")


def write_adapter(folder: Path, shape: LlamaShape, rank: int) -> None:
    """Random factors for every linear layer."""
    tensors = {}
    for name, (out, into) in ((name, one) for name, one in shape.tensors().items() if len(one) == 2):
        if "layers" in name:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(rank, into) * 0.01
            tensors[f"{module}.lora_B.weight"] = torch.randn(out, rank) * 0.01
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    targets = sorted({name.split(".")[-3] for name in tensors})
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def measured(model: str, out: Path) -> tuple[float, float]:
    """CPU in seconds, and the most memory that is not of files, in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, model, str(out)], check=True, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, files = (int(word) / 1000 for word in done.stdout.split()[-2:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, peak - files


if __name__ == "__main__":
    main()
