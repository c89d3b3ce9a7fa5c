"""A whole search, from a config with ranges to its findings; read `carried_out`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from mergecore import ConfigError, MergecoreError, OutputError, Plan, Registry, __version__
from mergecore.config import Choice, read_params
from mergecore.errors import Collector, counted
from mergecore.files import parse_json
from mergecore.types import Dimension, Json, Options, Sampler, SearchRequest
from mergecore_plugins.search.driving import Study, Task
from mergecore_plugins.search.findings.deciding import Verdict, best_of, verdict
from mergecore_plugins.search.findings.results import Findings, rows_of, said
from mergecore_plugins.search.findings.writing import remove_winner
from mergecore_plugins.search.journal import NAME, Journal, Trial, held, is_history
from mergecore_plugins.search.judging.bench import Asked, Bench, set_threads, workshop_of
from mergecore_plugins.search.judging.candidates import Reference, references_of
from mergecore_plugins.search.judging.objectives import Asked as Evaluating
from mergecore_plugins.search.judging.objectives import (
    asked_for,
    check_held_out,
    check_test_sets,
    judge_of,
    shared_files,
)
from mergecore_plugins.search.judging.workers import InProcesses, portable
from mergecore_plugins.search.space.places import placed
from mergecore_plugins.search.space.reading import Search, read_search

Mode = Literal["new", "resume", "restart"]
Told = Callable[[Trial, "Prepared"], object]


@dataclass(frozen=True)
class Prepared:
    """A search that is checked: nothing of it is wrong, and no weight has been read."""

    asked: Asked
    search: Search
    bench: Bench
    references: tuple[Reference, ...]
    sampler: Sampler[Any]
    request: SearchRequest
    identity: Mapping[str, Json]
    notes: tuple[str, ...]


def prepared(asked: Asked) -> Prepared:
    """What is asked for, checked to the ends of every range.

    Raises:
        MergecoreError: everything that is wrong with config, ranges, evaluators and models, several as `Problems`.
    """
    set_threads(asked.threads)
    search = read_search(Path(asked.config), cast("dict[str, Json]", parse_json(asked.instead, code="E104")))
    workshop = workshop_of(asked, search)
    section, registry = search.section, workshop.place.registry
    evaluators, shared = _evaluators(search, registry)
    bench = Bench(search, workshop, judge_of(section.objectives, evaluators))
    request = SearchRequest(
        dimensions=search.space.dimensions,
        objectives=section.count,
        seed=section.seed,
        trials=section.trials,
        batch=section.batch,
    )
    _check_start(search)
    sampler = _sampler(search, registry)
    with placed(search.written.place(("search", "sampler"))):
        sampler.begin(request, _sampler_params(search, sampler))  # what it cannot search is said now
    plans = workshop.check_ends()
    _check_groups(search, plans)
    references, notes = _usable(bench, references_of(search.space, plans, registry))
    bench.references = references
    identity: dict[str, Json] = {
        "mergecore": __version__,
        "config": [dict(one.data) for one in search.space.documents],
        "search": {
            key: one for key, one in said(section).items() if key not in ("trials", "time", "holdout")
        },
        "dimensions": [repr(one) for one in request.dimensions],
        "evaluators": [one.identity for one in evaluators],
        **_models(bench, plans, evaluators),
        "device": [asked.device, asked.dtype],
    }
    return Prepared(asked, search, bench, tuple(references), sampler, request, identity, (*shared, *notes))


def _evaluators(search: Search, registry: Registry) -> tuple[tuple[Evaluating, ...], list[str]]:
    """What scores points, and what to say of the data held out.

    Raises:
        MergecoreError: what is wrong with it, and with the data held out, several as `Problems`.
    """
    section, written, problems = search.section, search.written, Collector()
    asked: tuple[Evaluating, ...] = ()
    held_out: tuple[Evaluating, ...] = ()
    with problems.collecting():
        asked = asked_for(section.entries, written, registry)
        check_test_sets(asked, section, written)
    with problems.collecting():
        held_out = asked_for(section.held_out, written, registry, "holdout")
    with problems.collecting():
        check_held_out(asked, held_out, section, written)
    problems.raise_any()
    return asked, shared_files(asked, held_out)


def _models(bench: Bench, plans: Sequence[Plan], evaluators: Sequence[Evaluating]) -> dict[str, Json]:
    """Digests of all models that points may merge, and of those that evaluators compare them with."""
    made = [bench.workshop.candidate(one, "") for one in plans]
    compared = {other.identity for model in made for one in evaluators for other in one.compared(model)}
    return {"models": [one.identity for one in made], "compared": [*sorted(compared)]}


def _check_groups(search: Search, plans: Sequence[Plan]) -> None:
    """Raise E104 for every range with more groups of layers than there are layers: some would change nothing."""
    problems = Collector()
    each = [one for made in plans for one in (made, *(earlier.plan for earlier in made.earlier))]
    most = max((step.depth.count for one in each for step in one.steps if step.depth), default=0)
    for tagged, groups in search.space.groups:
        if groups > most:
            what = f"the range has {groups} groups of layers; {counted(most, 'layer')} can be told apart"
            hint = f"write 'groups: {most}' or fewer" if most > 1 else "leave 'per: layer_group' out"
            problems.add(ConfigError("E104", what, place=tagged.place, hint=hint))
    problems.raise_any()


def _sampler(search: Search, registry: Registry) -> Sampler[Any]:
    named = search.section.sampler.name
    with placed(search.written.place(("search", "sampler"))):
        found: Sampler[Any] = registry.get(Sampler, named)
        if search.section.count > 1 and not found.several:
            what = f"the sampler '{named}' takes one objective, not {search.section.count}"
            raise ConfigError("E104", what, hint="give each objective a 'weight', or use the sampler 'nsga2'")
    return found


def _check_start(search: Search) -> None:
    """Raise E104 for points to begin with that are none of this search."""
    for index, point in enumerate(search.section.start):
        for one in search.space.dimensions if isinstance(point, dict) else ():
            with placed(search.written.place(("search", "start", index))):
                _check_value(one, point.get(one.name) if isinstance(point, dict) else None)


def _check_value(one: Dimension, value: object) -> None:
    low, high = (0, one.count - 1) if isinstance(one, Options) else (one.low, one.high)
    hint = f"write a number from {low:g} to {high:g}; of a choice, the index of an option"
    if value is None:
        raise ConfigError("E104", f"a point of 'start' has no value for {one.name}", hint=hint)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        what = f"a point of 'start' has {value!r} for {one.name}, which is not in its range"
        raise ConfigError("E104", what, hint=hint)


def _sampler_params(search: Search, sampler: Sampler[Any]) -> Any:
    chosen = search.section.sampler
    path = ("search", "sampler")
    return read_params(
        sampler.params, Choice(Sampler, sampler.name, chosen.params, path, path, ("name",), search.written)
    )


def _usable(bench: Bench, references: Sequence[Reference]) -> tuple[list[Reference], list[str]]:
    """The models that points are measured by, and why some cannot be made."""
    found, notes = [], []
    for one in references:
        try:
            bench.workshop.reference(one)
        except MergecoreError as error:
            if one.kind != "average":
                raise
            notes.append(f"the average of the models cannot be made, so nothing is measured by it: {error}")
        else:
            found.append(one)
    return found, notes


# ---- carrying out ------------------------------------------------------------------------------------------


def carried_out(
    made: Prepared, out: Path, *, jobs: int = 1, mode: Mode = "new", told: Told = lambda trial, made: None
) -> Findings:
    """Search, and leave what is found in the folder `out`.

    Raises:
        MergecoreError: what stands in the way of the output; what is wrong with models or data.
    """
    _check_folder(out, mode)
    section = made.search.section
    journal = Journal(out, made.identity)
    try:
        with _scoring(made, jobs) as scoring:
            study = Study(
                made.search.space.dimensions,
                made.sampler.begin(made.request, _sampler_params(made.search, made.sampler)),
                journal,
                scoring,
                [one.kind for one in made.references],
                section.batch,
                section.trials,
                section.time,
                start=[one for one in section.start if isinstance(one, dict)],
                prune=section.prune,
                told=lambda trial: told(trial, made),
            )
            trials = study.run()
    finally:
        journal.close()
    found = _found(made, trials)
    found.write(out)
    return found


@contextmanager
def _scoring(made: Prepared, jobs: int) -> Iterator[Any]:
    """What scores models: this process, or several."""
    if jobs == 1:
        yield made.bench
        return
    pool = InProcesses(made.asked, portable(made.references), jobs)
    try:
        yield pool
    finally:
        pool.close()


def _check_folder(out: Path, mode: Mode) -> None:
    """Make the folder, or raise what is in the way of that."""
    if not out.absolute().parent.is_dir():
        hint = "make it, or choose another place"
        raise OutputError("E505", f"{out}: the folder {out.parent} does not exist", hint=hint)
    if (out / NAME).exists() and not is_history(out / NAME):
        what = f"{out / NAME} is not the history of a search"
        raise OutputError("E501", what, hint="choose another folder")
    if mode == "restart" and (out / NAME).exists():
        _throw_away(out)
        return
    if (out / NAME).exists() and mode == "new":
        if _is_finished(out):
            what, hint = (
                f"{out} holds a search that is finished",
                "--resume goes on if there are more --trials",
            )
        else:
            what, hint = f"{out} holds a search that was begun", "--resume goes on with it"
        raise OutputError("E507", what, hint=f"{hint}, --restart throws it away")
    if out.exists() and not (out / NAME).exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError("E501", f"{out} exists, and is not of a search", hint="choose another folder")
    out.mkdir(exist_ok=True)


def _is_finished(out: Path) -> bool:
    """Whether nothing was tried since the search in a folder came to its end."""
    end = out / "search.json"
    return end.exists() and end.stat().st_mtime_ns >= (out / NAME).stat().st_mtime_ns


def _throw_away(out: Path) -> None:
    """Remove what an earlier search has left in its folder, and nothing beside it."""
    with held(out / NAME):
        for one in [out / "search.json", out / "best.yml", *(out / "front").glob("*.yml"), out / NAME]:
            one.unlink(missing_ok=True)
        remove_winner(out / "merged")


def _found(made: Prepared, trials: Sequence[Trial]) -> Findings:
    """What a search comes to; the data held out is looked at here, once."""
    section = made.search.section
    points = [one for one in trials if one.kind == "point"]
    average = next((one for one in trials if one.kind == "average"), None)
    best = best_of(points, average)
    of_all = (made.asked.config, made.search.space, section, trials)
    if best is None:
        why = f"each of {len(points)} points failed, or was ended early since it was worse"
        return Findings(*of_all, None, Verdict(False, why) if average else None, (), False, made.notes)
    on_holdout = _held_out(made, best) if section.holdout else []
    judged = None
    if average is not None:
        pair = (
            (on_holdout[0], next(one for one in on_holdout if one.kind == "average")) if on_holdout else None
        )
        judged = verdict(best, average, points, section.objectives, pair)
    shown = on_holdout or [best, *trials]
    rows = rows_of(shown, shown[0], section.objectives)
    return Findings(*of_all, best, judged, rows, bool(on_holdout), made.notes)


def held_out_bench(made: Prepared) -> Bench:
    """What scores models on the data held out."""
    section, registry = made.search.section, made.bench.workshop.place.registry
    judge = judge_of(
        section.objectives, asked_for(section.held_out, made.search.written, registry, "holdout")
    )
    return replace(made.bench, judge=judge)


def _held_out(made: Prepared, best: Trial) -> list[Trial]:
    """The best point and what it is measured by, on the data held out."""
    bench = held_out_bench(made)
    tasks = [Task(best.number, best.point), *(Task(i, None) for i in range(len(made.references)))]
    return [bench.score(task) for task in tasks]
