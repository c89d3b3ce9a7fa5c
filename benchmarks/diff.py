"""What does it cost to compare two models?  CPU and memory of `mergecore diff`.

    python benchmarks/diff.py --parameters 1.2B

Two Llama-shaped bf16 models, and the same with a base; each command in a process of its own, its start included.
Memory is the peak of the process without the page cache.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.checkpoints import parse_count, shape_for, write_set

MEASURED = """
import sys
from mergecore.cli import main
try:
    main(sys.argv[1:])
except SystemExit as done:
    assert done.code in (0, 3), done.code
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["VmHWM"].split()[0], status["RssFile"].split()[0], file=sys.stderr)
"""


@click.command()
@click.option("--parameters", default="1.2B", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option(
    "--workdir", type=click.Path(path_type=Path), help="Where the models are made; a temporary folder else."
)
def main(parameters: str, threads: int, workdir: Path | None) -> None:
    """Print a line for each command: CPU in seconds, and memory."""
    with tempfile.TemporaryDirectory(dir=workdir) as temporary:
        shape = shape_for(parse_count(parameters))
        made = write_set(Path(temporary), shape, models=2)
        a, b = map(str, made.models)
        for words in ([a, b], [a, b, "--base", str(made.base)]):
            cpu, peak = measured(["diff", *words, "-j", str(threads)])
            each = cpu * 1e9 / shape.parameters()
            click.echo(
                f"{len(words) // 2 + 1} models: {cpu:.1f} s of CPU, {each:.1f} ns a parameter, peak {peak:.0f} MB"
            )


def measured(words: list[str]) -> tuple[float, float]:
    """CPU in seconds, and the most memory that is not of files, in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], check=True, capture_output=True, text=True, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, files = map(int, done.stderr.splitlines()[-1].split())
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, (peak - files) / 1000


if __name__ == "__main__":
    main()
