"""How long a mixture of experts takes to build, beside a copy of its files, and how much memory.

    python benchmarks/moe_build.py [--parameters 0.5B] [--experts 8] [--workdir DIR] [--repeats 3]

Random routers, so nothing is computed but copies.  The copy is that of `cp -r` and reaches the disk (`sync -f`), as the
build does before it ends.  Both are repeated in turn; the table has the medians.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

import click
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.checkpoints import parse_count, shape_for, write_set
from benchmarks.measure import Usage, measure


@click.command()
@click.option("--parameters", default="0.5B", show_default=True, help="Size of the dense models.")
@click.option("--experts", default=8, show_default=True, help="How many of them.")
@click.option("--architecture", default="mixtral", show_default=True, help="The family.")
@click.option("--layout", default="hub", show_default=True, type=click.Choice(["hub", "fused"]))
@click.option("--workdir", default="moe-benchmark", show_default=True, type=click.Path(path_type=Path))
@click.option("--repeats", default=3, show_default=True)
def main(parameters: str, experts: int, architecture: str, layout: str, workdir: Path, repeats: int) -> None:
    """Build the mixture, copy it, and print what both took."""
    made = write_set(workdir / "models", shape_for(parse_count(parameters)), experts)
    config = workdir / "moe.yml"
    document = {
        "base_model": str(made.base.resolve()),
        "gate_mode": "random",
        "architecture": architecture,
        "layout": layout,
        "experts": [{"source_model": str(one.resolve())} for one in made.models],
    }
    config.write_text(yaml.safe_dump(document, sort_keys=False))
    out, copy = workdir / "out", workdir / "copy"
    command = str(Path(sys.executable).parent / "mergecore")
    builds: list[Usage] = []
    copies: list[Usage] = []
    for _ in range(repeats):
        for folder in (out, copy):
            shutil.rmtree(folder, ignore_errors=True)
        builds.append(measure([command, "merge", str(config), str(out), "-q"]))
        if builds[-1].exit_code:
            raise click.ClickException(builds[-1].output_tail)
        copies.append(measure(["sh", "-c", f"cp -r {out} {copy} && sync -f {copy}"]))
    size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    ratios = [one.wall / other.wall for one, other in zip(builds, copies, strict=True)]
    print(f"{experts} experts of {parameters}, {architecture}, {layout}: {size / 1e9:.2f} GB")
    for name, runs in (("build", builds), ("copy", copies)):
        walls = [one.wall for one in runs]
        memory = max(one.peak_anonymous for one in runs)
        print(
            f"{name:6} {statistics.median(walls):6.1f} s ({min(walls):.1f} to {max(walls):.1f})  "
            f"CPU {statistics.median(one.cpu for one in runs):5.1f} s  {memory / 1e6:4.0f} MB"
        )
    print(f"build / copy: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
