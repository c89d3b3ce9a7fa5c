"""Measures merge tools side by side: every figure from a fresh process, the tools taking turns.

Read `measure_all`, then `_merge_runs`; `main` holds the options.
"""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import click
import yaml
from benchmarks.checkpoints import DELTA_RMS, Checkpoints, parse_count, shape_for, write_set
from benchmarks.measure import Usage, measure
from benchmarks.methods import CASES, DEFAULT_METHODS, config_for, inputs_of
from benchmarks.pages import with_tables
from benchmarks.report import Kind, Run, Text, as_json, markdown, summarise, tables
from benchmarks.tools import ENVIRONMENT, Variant, fault_of, find_tools, variants, version_of

TINY = "0.2M"  # parameters of the checkpoints whose merge is all start-up
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/explanation/speed.md"


@dataclass(frozen=True)
class Measured:
    """What is measured."""

    sizes: tuple[str, ...]
    methods: tuple[str, ...]
    models: int
    delta_rms: float
    repeats: int
    arithmetic: str
    plan: str | None
    timeout: float
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Job:
    """One process to measure: what it is called in the report, its command and the folders it reads."""

    kind: Kind
    size: str
    method: str
    label: str
    repeat: int
    command: Sequence[str]
    inputs: Sequence[Path]


def measure_all(measured: Measured, root: Path) -> tuple[list[Run], dict[str, int]]:
    """Every run, and the true number of parameters of each size; checkpoints go below `root`."""
    runs: list[Run] = []
    parameters: dict[str, int] = {}
    tiny = write_set(root / "tiny", shape_for(parse_count(TINY)), measured.models)
    for size in measured.sizes:
        shape = shape_for(parse_count(size))
        parameters[size] = shape.parameters()
        _say(f"{size}: writing {measured.models + 1} checkpoints of {shape.parameters():,} parameters")
        folder = root / (size if measured.delta_rms == DELTA_RMS else f"{size}-{measured.delta_rms:g}")
        made = write_set(folder, shape, measured.models, delta_rms=measured.delta_rms)
        runs += _floor_runs(measured, size, made, root / "copy")
        runs += _merge_runs(measured, size, made, tiny, root / "merged")
    if measured.plan:
        runs += _plan_runs(measured, measured.plan, root)
    return runs, parameters


def _floor_runs(measured: Measured, size: str, made: Checkpoints, copy: Path) -> Iterator[Run]:
    """The least that any tool does: reading as many checkpoints as a method reads, and writing one."""
    counts = sorted({len(inputs_of(method, made.base, made.models)) for method in measured.methods})
    for repeat in range(measured.repeats):
        for count in counts:
            folders = made.folders[:count]
            files = [str(file) for folder in folders for file in sorted(folder.glob("*.safetensors"))]
            command = ["sh", "-c", 'cat "$@" > /dev/null', "cat", *files]
            yield _perform(Job("floor", size, "", f"read {count} (cat)", repeat, command, folders), measured)
        command = ["cp", "-r", "--reflink=never", str(made.base), str(copy)]
        yield _perform(Job("floor", size, "", "copy 1 (cp)", repeat, command, [made.base]), measured)
        shutil.rmtree(copy)


def _merge_runs(
    measured: Measured, size: str, made: Checkpoints, tiny: Checkpoints, out: Path
) -> Iterator[Run]:
    """Each repeat of each method: every tool in turn, its start-up first; the turns go back and forth.

    A tool that failed at a method is not asked again.
    """
    failed: set[tuple[str, str]] = set()
    for repeat in range(measured.repeats):
        turns = measured.variants if repeat % 2 == 0 else measured.variants[::-1]
        for method in measured.methods:
            for variant in turns:
                if (method, variant.label) in failed:
                    continue
                pair = (
                    _merge(measured, "startup", size, method, variant, repeat, tiny, out),
                    _merge(measured, "merge", size, method, variant, repeat, made, out),
                )
                yield from pair
                if any(run.fault for run in pair):
                    failed.add((method, variant.label))


def _merge(
    measured: Measured,
    kind: Kind,
    size: str,
    method: str,
    variant: Variant,
    repeat: int,
    made: Checkpoints,
    out: Path,
) -> Run:
    config = out.with_name("merge.yml")
    document = config_for(method, made.base, made.models, measured.arithmetic)
    config.write_text(yaml.safe_dump(document, sort_keys=False))
    command = variant.tool.command(config, out, variant.threads)
    inputs = inputs_of(method, made.base, made.models)
    job = Job(kind, size, method, variant.label, repeat, command, inputs)
    run = _perform(job, measured, lambda: fault_of(out, made.shape.tensors()))
    shutil.rmtree(out, ignore_errors=True)
    return run


def _plan_runs(measured: Measured, size: str, root: Path) -> Iterator[Run]:
    """`mergecore plan` on checkpoints that are all header."""
    method = "ties"
    made = write_set(root / f"{size}-sparse", shape_for(parse_count(size)), measured.models, sparse=True)
    config = root / "plan.yml"
    config.write_text(yaml.safe_dump(config_for(method, made.base, made.models), sort_keys=False))
    command = [sys.executable, "-m", "mergecore", "plan", str(config)]
    for repeat in range(measured.repeats):
        yield _perform(Job("plan", size, method, "mergecore", repeat, command, []), measured)


def _perform(job: Job, measured: Measured, check: Callable[[], str | None] = lambda: None) -> Run:
    """Measures one job with its inputs in the page cache and nothing left to be written back."""
    for folder in job.inputs:
        _read_through(folder)
    os.sync()
    load = os.getloadavg()[0]
    usage = measure(job.command, ENVIRONMENT, measured.timeout)
    fault = check() if usage.exit_code == 0 else _fault(usage)
    _say(f"  {job.kind} {job.method} {job.label}: {usage.wall:.2f} s, CPU {usage.cpu:.2f} s {fault or ''}")
    return Run(job.kind, job.size, job.method, job.label, job.repeat, load, usage, fault)


def _fault(usage: Usage) -> str:
    lines = [line.strip() for line in usage.output_tail.splitlines() if line.strip()]
    return f"exit code {usage.exit_code}: {lines[-1] if lines else 'no output'}"


def _read_through(folder: Path) -> None:
    buffer = bytearray(1 << 23)
    for file in folder.glob("*.safetensors"):
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def _say(text: str) -> None:
    click.echo(text, err=True)


def _machine() -> Text:
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "load at the start": round(os.getloadavg()[0], 2),
    }


def _described(measured: Measured) -> Text:
    tools = dict.fromkeys(variant.tool for variant in measured.variants)
    return {
        "models": f"base + {measured.models}, each {measured.delta_rms:g} root mean square from it, bf16, "
        "page cache warm",
        "repeats": measured.repeats,
        "config dtype": measured.arithmetic,
        **{
            tool.name: f"{version_of(tool)} (`{' '.join((Path(tool.words[0]).name, *tool.words[1:]))}`)"
            for tool in tools
        },
    }


@contextmanager
def _workspace(workdir: Path | None) -> Iterator[Path]:
    if workdir:
        workdir.mkdir(parents=True, exist_ok=True)
        yield workdir
    else:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            yield Path(folder)


def _words(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _methods(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    chosen = tuple(CASES) if text == "all" else _words(context, option, text)
    unknown = [method for method in chosen if method not in CASES]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: expected all or some of {', '.join(CASES)}")
    return chosen


@click.command()
@click.option("--parameters", "sizes", default="0.1B", callback=_words, help="Sizes, as in 0.1B,1.2B.")
@click.option("--methods", default=",".join(DEFAULT_METHODS), callback=_methods, help="Methods, or `all`.")
@click.option("--models", default=3, type=click.IntRange(2), help="Models beside the base.")
@click.option("--delta-rms", default=DELTA_RMS, help="How far models lie from the base; its sigma is 0.02.")
@click.option("--repeats", default=3, type=click.IntRange(1))
@click.option("--threads", default="1,2", callback=_words, help="For tools that take a number of threads.")
@click.option("--max-memory", default=None, help="Passed to mergecore.")
@click.option("--tool", "given", multiple=True, help="NAME=COMMAND, as in mergekit=/path/bin/mergekit-yaml.")
@click.option("--mergecore/--no-mergecore", "with_mergecore", default=True)
@click.option(
    "--arithmetic",
    default="bfloat16",
    type=click.Choice(["bfloat16", "float32"]),
    help="The config's dtype; the output is bf16 in both cases.",
)
@click.option("--plan", default="70B", help="Size of the sparse checkpoints for `mergecore plan`, or `none`.")
@click.option("--timeout", default=3600.0, help="Seconds after which a process is killed.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Keeps the checkpoints for the next run.")
@click.option("--results", default=RESULTS, type=click.Path(path_type=Path), help="Folder of both reports.")
@click.option(
    "--write-docs",
    is_flag=True,
    help=f"Also put the tables into {PAGE.relative_to(ROOT)}, which has places for some sizes.",
)
def main(
    sizes: tuple[str, ...],
    methods: tuple[str, ...],
    models: int,
    delta_rms: float,
    repeats: int,
    threads: tuple[str, ...],
    max_memory: str | None,
    given: tuple[str, ...],
    with_mergecore: bool,
    arithmetic: str,
    plan: str,
    timeout: float,
    workdir: Path | None,
    results: Path,
    write_docs: bool,
) -> None:
    """Measure time, memory and bytes of merges; print a table and write it, with every run, as JSON."""
    try:
        tools = find_tools(given, max_memory)[0 if with_mergecore else 1 :]
        if write_docs:
            page_with("", sizes, delta_rms)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    chosen = tuple(variants(tools, [int(count) for count in threads]))
    sparse = plan if with_mergecore and plan != "none" else None
    measured = Measured(sizes, methods, models, delta_rms, repeats, arithmetic, sparse, timeout, chosen)
    machine, described = _machine(), _described(measured)
    with _workspace(workdir) as root:
        runs, counts = measure_all(measured, root)
    lines = summarise(runs, counts)
    table = markdown(lines, runs, machine, described)
    results.mkdir(parents=True, exist_ok=True)
    (results / "benchmark.md").write_text(table)
    (results / "benchmark.json").write_text(as_json(lines, runs, machine, described))
    click.echo(table)
    if write_docs:
        PAGE.write_text(page_with(tables(lines, runs, machine, described), sizes, delta_rms), encoding="utf8")


def page_with(tables: str, sizes: Sequence[str], delta_rms: float = DELTA_RMS) -> str:
    """The page about speed with those tables in the place for such models.

    Raises:
        ValueError: when it has none.
    """
    apart = "" if delta_rms == DELTA_RMS else f" --delta-rms {delta_rms:g}"
    command = f'make bench BENCH="--write-docs --parameters {",".join(sizes)}{apart} …"'
    return with_tables(PAGE.read_text(encoding="utf8"), command, tables)


if __name__ == "__main__":
    main()
