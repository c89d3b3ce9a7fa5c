"""Whether a search beats what was tuned by hand: the eight experts of `evidence.py`, searched on the validation images.

`python benchmarks/search_digits.py` prints a table; `make search-digits` does the same.  The models, the data and the
score are those of `make evidence`, whose best row on validation is what the search has to beat; it begins there.  The
test images are looked at once.
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import click
import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.evidence import GRID, ROOT, TASKS, Experiment, Models, trained

from mergecore.types import Score
from mergecore_plugins.commands.demo.digits import Digits
from mergecore_plugins.commands.demo.scoring import accuracies, load
from mergecore_plugins.search.driving import Task
from mergecore_plugins.search.judging.bench import Asked
from mergecore_plugins.search.searching import carried_out, held_out_bench, prepared

SCALES = [scale for scale in GRID if 0.2 <= scale <= 1.6]
"""Those of the grid of make evidence among which its best one lies."""
LOW, HIGH = 0.5, 1.5
"""What weights are multiplied by; the best that was tuned by hand has 1 everywhere."""


@dataclass(frozen=True)
class Outcome:
    """Normalised accuracies in percent, on validation and test: tuned by hand, found by the search, the average."""

    seed: int
    by_hand: tuple[float, float]
    found: tuple[float, float]
    average: tuple[float, float]
    verdict: str
    seconds: float
    merging: float


@click.command()
@click.option("--seeds", default=3, show_default=True, help="How many of the seeds of make evidence.")
@click.option("--trials", default=200, show_default=True, help="Points of each search.")
@click.option(
    "--out",
    default=ROOT / "benchmark-results/evidence",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the models of make evidence, which are trained if they are not there.",
)
def main(seeds: int, trials: int, out: Path) -> None:
    """Search, and print what was found beside what was tuned by hand."""
    done = [search_seed(seed, trials, out) for seed in range(seeds)]
    (out / "search_digits.json").write_text(json.dumps([vars(one) for one in done], indent=1) + "\n")
    click.echo(table(done))


def search_seed(seed: int, trials: int, out: Path) -> Outcome:
    """A search among the experts of a seed."""
    experiment = Experiment()
    models = trained(out / f"seed-{seed}", experiment, seed)
    folder = out / f"seed-{seed}" / "search"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = {
        part: {task: accuracies(load(models.experts[task]), digits, [task])[task] / 100 for task in TASKS}
        for part, digits in (("validation", experiment.split.validation), ("test", experiment.split.test))
    }
    _write_images(folder, "validation", experiment.split.validation)
    _write_images(folder, "test", experiment.split.test)
    config = folder / "search.yml"
    config.write_text(_config(models, own["validation"], trials, seed))
    made = prepared(Asked(str(config), threads=1))
    found = carried_out(
        made, folder / "found", told=lambda trial, _: click.echo(f"{trial.name} {trial.values}", err=True)
    )
    points = [one for one in found.trials if one.kind == "point"]
    hand = max(points[: len(SCALES)], key=lambda one: one.values)
    average = next(one for one in found.trials if one.kind == "average")
    best = found.best
    assert best is not None

    by_hand = held_out_bench(made).score(Task(hand.number, hand.point))
    return Outcome(
        seed,
        (hand.values[0], normalised(by_hand.scores, own["test"])),
        (best.values[0], normalised(found.rows[0].trial.scores, own["test"])),
        (average.values[0], normalised(found.rows[1].trial.scores, own["test"])),
        found.verdict.why if found.verdict else "",
        mean(one.seconds for one in points),
        mean(one.merging for one in points),
    )


def normalised(scores: Sequence[Score], own: Mapping[str, float]) -> float:
    """The mean over the tasks of the accuracy as a share of the expert's, in percent."""
    return 100 * mean(one.value / own[task] for one, task in zip(scores, TASKS, strict=True))


def _config(models: Models, own: Mapping[str, float], trials: int, seed: int) -> str:
    """Weights of experts and lambda by layer of `iso_cts`, which is best when tuned by hand."""
    names = [f"{task}.weight" for task in models.experts]
    entries = "".join(
        f"  - {{model: {path}, parameters: {{weight: !range [{LOW}, {HIGH}]}}}}\n"
        for path in models.experts.values()
    )
    start = [{**dict.fromkeys(names, 1.0), "lambda[0]": scale, "lambda[1]": scale} for scale in SCALES]
    objectives = [
        {
            "evaluator": "classification",
            "name": task,
            "images": f"validation-{task}.npz",
            "weight": 100
            / len(TASKS)
            / own[task],  # so that their sum is the normalised accuracy, in percent
        }
        for task in TASKS
    ]
    holdout = [{"images": f"test-{task}.npz"} for task in TASKS]
    section = {
        "sampler": "cma",
        "trials": trials,
        "seed": seed,
        "objectives": objectives,
        "holdout": holdout,
        "start": start,
    }
    return (
        f"merge_method: iso_cts\nbase_model: {models.base}\nmodels:\n{entries}"
        "parameters: {lambda: !range {low: 0.2, high: 1.6, per: layer_group, groups: 2}}\n"
        f"seed: {seed}\n{yaml.safe_dump({'search': section})}"
    )


def _write_images(folder: Path, part: str, digits: Digits) -> None:
    for task in TASKS:
        seen = digits.seen_as(task)
        np.savez(
            folder / f"{part}-{task}.npz", images=seen.images.unsqueeze(1).numpy(), labels=seen.labels.numpy()
        )


def table(done: Sequence[Outcome]) -> str:
    """What came out, seed by seed."""
    head = (
        "| seed | tuned by hand | found by search | average | by hand, test | search, test | average, test |"
    )
    rows = [
        f"| {one.seed} | {one.by_hand[0]:.2f} | {one.found[0]:.2f} | {one.average[0]:.2f} "
        f"| {one.by_hand[1]:.2f} | {one.found[1]:.2f} | {one.average[1]:.2f} |"
        for one in done
    ]
    return "\n".join([head, "| --- |" + " --- |" * 6, *rows])


if __name__ == "__main__":
    main()
