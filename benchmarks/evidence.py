"""How good merged models are: eight experts of one small base, merged by every method and scored on all eight tasks.

`python benchmarks/evidence.py` prints the tables; `make evidence` does the same.  A task is one way to transform
images of digits.  Read `main`, then `run_seed`; the arithmetic of the scores and the tables are in
`evidence_report.py`, the configs in `methods.py`, data and training are those of `mergecore demo`.
"""

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean

import click
import torch
import yaml
from transformers.utils.logging import disable_progress_bar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.evidence_report import Fitness, Outcome, Seed, best_scale, fitness, report
from benchmarks.methods import SETTINGS, Setting, setting_config
from benchmarks.pages import with_tables

import mergecore
from mergecore import MergeMethod, Registry, RunOptions
from mergecore.compute import one_thread_each
from mergecore_plugins.commands.demo.digits import TRANSFORMS, Digits, Split, load_split
from mergecore_plugins.commands.demo.scoring import accuracies, load
from mergecore_plugins.commands.demo.train import Schedule, train

TASKS = tuple(TRANSFORMS)
GRID = (0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5)
"""The scales that are tried, the same for every method."""

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/explanation/evidence.md"


@click.command()
@click.option("--seeds", default=5, show_default=True, help="How many times to train and merge.")
@click.option(
    "--jobs", default=os.cpu_count() or 1, help="Seeds at the same time; by default a core for each."
)
@click.option(
    "--out",
    default=ROOT / "benchmark-results/evidence",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of evidence.json and of the trained models, which another run takes from there.",
)
@click.option("--write-docs", is_flag=True, help=f"Also put the tables into {PAGE.relative_to(ROOT)}.")
def main(seeds: int, jobs: int, out: Path, write_docs: bool) -> None:
    """Train, merge and score; print how the merged models do."""
    with ProcessPoolExecutor(min(jobs, seeds), mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(run_seed, range(seeds), [out] * seeds))
    text = report(done, GRID, left_out(Registry.discover()))
    found = {"torch": torch.__version__, "grid": GRID, "seeds": [asdict(seed) for seed in done]}
    (out / "evidence.json").write_text(json.dumps(found, indent=1) + "\n")
    click.echo(text)
    if write_docs:
        page = with_tables(PAGE.read_text(encoding="utf8"), "make evidence", text)
        PAGE.write_text(page, encoding="utf8")


@dataclass(frozen=True)
class Experiment:
    """What is trained and tried; without arguments, that of the published tables."""

    schedule: Schedule = field(default_factory=lambda: Schedule(batch=128))  # 64 are few for eight tasks
    split: Split = field(default_factory=load_split)
    settings: Sequence[Setting] = SETTINGS
    grid: Sequence[float] = GRID


@dataclass(frozen=True)
class Models:
    """The folders of one seed."""

    folder: Path
    base: Path
    experts: Mapping[str, Path]


def run_seed(seed: int, out: Path, experiment: Experiment | None = None) -> Seed:
    """Everything that one seed gives; its models are in `out/seed-N` and taken from there if they are."""
    experiment = experiment or Experiment()
    disable_progress_bar()
    registry = Registry.discover()
    installed = {method.name for method in registry.all(MergeMethod)}
    with one_thread_each():
        began = time.process_time()
        models = trained(out / f"seed-{seed}", experiment, seed)
        middle = time.process_time()
        bench = Bench(models, seed, registry, *_judges(models, experiment.split))
        outcomes = {
            setting.name: outcome(bench, setting, experiment.grid)
            for setting in experiment.settings
            if setting.method in installed
        }
        unmerged = _unmerged(bench)
    cpu = (middle - began, time.process_time() - middle)
    click.echo(f"seed {seed}: {cpu[0]:.0f} CPU seconds of training, {cpu[1]:.0f} of merging", err=True)
    return Seed(seed, *cpu, *unmerged, outcomes)


def trained(folder: Path, experiment: Experiment, seed: int) -> Models:
    """Base and experts in `folder/models`, trained unless this very schedule was carried out there before."""
    schedule = replace(experiment.schedule, seed=seed)
    models, done = folder / "models", folder / "schedule.json"
    if not (done.exists() and json.loads(done.read_text()) == asdict(schedule)):
        done.unlink(missing_ok=True)
        shutil.rmtree(models, ignore_errors=True)
        train(models, _shuffled(experiment.split, seed), schedule, TASKS)
        done.write_text(json.dumps(asdict(schedule)))
    return Models(folder, models / "base", {task: models / task for task in TASKS})


@dataclass(frozen=True)
class Judge:
    """Some images, and how each expert does at its own task with them, in percent."""

    digits: Digits
    own: Mapping[str, float]

    def fitness(self, model: Path) -> Fitness:
        """How the model in a folder does at all tasks."""
        return fitness(accuracies(load(model), self.digits, TASKS), self.own)


@dataclass(frozen=True)
class Bench:
    """What merges with one seed and scores."""

    models: Models
    seed: int
    registry: Registry
    validation: Judge
    test: Judge

    @contextmanager
    def merged(self, setting: Setting, scale: float | None) -> Iterator[Path]:
        """The folder of the merged model, made from a config file as a user's is."""
        config, out = self.models.folder / "merge.yml", self.models.folder / "merged"
        merge = setting_config(setting, self.models.base, list(self.models.experts.values()), scale)
        config.write_text(yaml.safe_dump(merge | {"seed": self.seed}), encoding="utf8")
        shutil.rmtree(out, ignore_errors=True)
        yield mergecore.merge(config, out, registry=self.registry, run_options=RunOptions(threads=1))
        shutil.rmtree(out)


def outcome(bench: Bench, setting: Setting, grid: Sequence[float]) -> Outcome:
    """What a setting reaches: picks the scale on the validation images, then looks at the test images once."""
    validation: dict[float, float] = {}
    for candidate in grid if setting.scale else ():
        with bench.merged(setting, candidate) as model:
            validation[candidate] = bench.validation.fitness(model).normalised
    with bench.merged(setting, None) as model:
        default = bench.test.fitness(model)
    if not validation:
        return Outcome(default, default, None, validation)
    scale = best_scale(validation)
    with bench.merged(setting, scale) as model:
        return Outcome(default, bench.test.fitness(model), scale, validation)


def left_out(registry: Registry) -> Mapping[str, str]:
    """The installed methods that are not in the tables, and why."""
    have = {setting.method for setting in SETTINGS}
    return {
        method.name: _too_few(method.models[1]) or "no setting in benchmarks/methods.py"
        for method in registry.all(MergeMethod)
        if method.name not in have
    }


def _too_few(most: int | None) -> str:
    return "" if most is None or most >= len(TASKS) else f"takes {most} of the experts"


def _shuffled(split: Split, seed: int) -> Split:
    """Other training images come first, so the base of every seed has seen others."""
    order = torch.randperm(len(split.train), generator=torch.Generator().manual_seed(seed))
    return replace(split, train=split.train[order])


def _judges(models: Models, split: Split) -> tuple[Judge, Judge]:
    def judge(digits: Digits) -> Judge:
        own = {
            task: accuracies(load(expert), digits, [task])[task] for task, expert in models.experts.items()
        }
        return Judge(digits, own)

    return judge(split.validation), judge(split.test)


def _unmerged(bench: Bench) -> tuple[Fitness, Fitness, Fitness]:
    """The base, the experts each at its own task, and the mean of the experts at all tasks."""
    test = bench.test
    rows = [accuracies(load(expert), test.digits, TASKS) for expert in bench.models.experts.values()]
    average = {task: mean(row[task] for row in rows) for task in TASKS}
    return test.fitness(bench.models.base), fitness(test.own, test.own), fitness(average, test.own)


if __name__ == "__main__":
    main()
