"""Is a merge in memory that of the same models on disk, and how much memory does it take beside models and result?

    python benchmarks/in_memory.py --parameters 0.1B

Four models are merged by some methods, on disk and by `merge_state_dicts`, in a process for each method.  Every tensor
is compared bit by bit.  Printed is the peak of anonymous memory beyond that of the models and the result; Python and
torch are in it.  The exit status is 1 when anything differs, or when that is more than 300 MB.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

METHODS = "linear,slerp,ties,dare_ties,della,model_stock,karcher"
MOST = 300_000_000


@click.command()
@click.option("--parameters", default="0.1B", help="Size of each model.")
@click.option("--methods", default=METHODS, help="Methods, with commas.")
@click.option("--threads", type=int, default=2)
@click.option("--workdir", type=click.Path(path_type=Path), help="Keeps the models for the next run.")
def main(parameters: str, methods: str, threads: int, workdir: Path | None) -> None:
    """Merge four models on disk and in memory, and print a line for each method."""
    from benchmarks.checkpoints import parse_count, shape_for, write_set

    failed = False
    with tempfile.TemporaryDirectory(prefix="in-memory-") as folder:
        root = workdir or Path(folder)
        write_set(root / parameters, shape_for(parse_count(parameters)), 3)
        for method in methods.split(","):
            words = [sys.executable, __file__, "--one", method, str(root / parameters), str(threads)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise click.ClickException(done.stderr)
            found = json.loads(done.stdout)
            failed |= found["different"] > 0 or found["beyond"] > MOST
            click.echo(
                f"{method}: {found['tensors']} tensors, {found['different']} differ; {found['beyond'] / 1e6:.0f} MB "
                f"beyond {found['models'] / 1e6:.0f} MB of models and {found['result'] / 1e6:.0f} MB of result"
            )
    raise SystemExit(failed)


def one(method: str, root: Path, threads: int) -> dict[str, int]:
    """What a merge in memory takes, and in how many tensors it differs from that on disk."""
    import shutil

    import torch
    from benchmarks.methods import config_for

    import mergecore
    from mergecore import RunOptions

    folders = [root / "base", *(root / f"model-{i}" for i in range(1, 4))]
    config = config_for(method, folders[0], folders[1:])
    options = RunOptions(threads=threads)
    out = mergecore.merge(config, root / f"out-{method}", run_options=options)
    text = json.dumps(config, default=str)
    models = {str(folder): tensors_of(folder) for folder in folders if json.dumps(str(folder)) in text}
    held = sum(tensor.nbytes for model in models.values() for tensor in model.values())
    watch = Peak()
    merged = mergecore.merge_state_dicts(config, models, run_options=options)
    peak, result = watch.stop(), sum(tensor.nbytes for tensor in merged.values())
    wanted = tensors_of(out)
    shutil.rmtree(out)
    same = [name for name, one in wanted.items() if name in merged and torch.equal(one, merged[name])]
    return {
        "tensors": len(wanted),
        "different": len({*wanted, *merged}) - len(same),
        "models": held,
        "result": result,
        "beyond": peak - held - result,
    }


def tensors_of(folder: Path) -> "dict[str, Tensor]":
    """All tensors of a model, in memory of their own."""
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    return {name: tensor.clone() for file in files for name, tensor in load_file(file).items()}


class Peak:
    """Watches the anonymous memory of this process."""

    def __init__(self) -> None:
        self._most = anonymous()
        self._done = False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """The most there was, in bytes."""
        self._done = True
        self._thread.join()
        return max(self._most, anonymous())

    def _watch(self) -> None:
        while not self._done:
            self._most = max(self._most, anonymous())
            time.sleep(0.002)


def anonymous() -> int:
    """Bytes of anonymous memory of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel does not say how much memory is anonymous")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
