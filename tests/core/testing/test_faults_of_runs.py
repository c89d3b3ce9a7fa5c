"""Each property of executors, recipes, reporters and commands is broken by a plugin, and is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from kit_faults import breaks, names, only
from tiny import registry

from mergecore import Document, Executor, Field, Params, Plan, Planner, Recipe
from mergecore.testing import (
    check_command,
    check_executor,
    check_recipe,
    check_reporter,
    tiny_model,
)
from mergecore.testing.kinds.commands import COMMAND
from mergecore.testing.kinds.executors import EXECUTOR
from mergecore.testing.kinds.recipes import RECIPE
from mergecore.testing.kinds.reporters import REPORTER
from mergecore.types import (
    StepDone,
)

drawn = random.Random(0)


# ---- executors --------------------------------------------------------------------------------------------

THREADS = registry().get(Executor, "threads")


class Careless:
    """Workers that do not do what they should."""

    def __init__(self, how: str) -> None:
        self.how = how

    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        for index in range(count - (self.how == "lazy")):
            try:
                work(index)
            except Exception:
                if self.how != "silent":
                    raise


@contextmanager
def lent(how: str) -> Iterator[Careless]:
    yield Careless(how)


def forgetful(job: Any, params: Any) -> Iterator[Any]:
    """Leaves out the last block of every step."""
    with job.open() as run_step:
        for step in job.steps:
            yield run_step(step, Careless("lazy"))


def swallows(job: Any, params: Any) -> Iterator[Any]:
    with job.open() as run_step:
        for step in job.steps:
            try:
                yield run_step(step, Careless(""))
            except Exception as error:
                raise RuntimeError("something") from error


def gives_up(job: Any, params: Any) -> Iterator[Any]:
    raise RuntimeError("no")
    yield


EXECUTORS: list[tuple[str, Executor[Any], str]] = [
    ("memory", replace(THREADS, memory=-1), "`memory` is -1"),
    ("workers", replace(THREADS, workers=lambda count: lent("lazy")), "calls it once with every index"),
    ("errors", replace(THREADS, workers=lambda count: lent("silent")), "keeps an error to itself"),
    ("bytes", replace(THREADS, name="odd", run=forgetful), "0 bytes of tensor"),
    ("verify", replace(THREADS, name="odd", run=gives_up), "RuntimeError"),
    (
        "passes",
        replace(THREADS, name="odd", workers=lambda count: lent("lazy")),
        "failed before the first tensor",
    ),
    ("failure", replace(THREADS, name="odd", run=swallows), "pass on the error of the step"),
]


@pytest.mark.parametrize(("name", "odd", "text"), EXECUTORS, ids=[name for name, *_ in EXECUTORS])
def test_a_fault_of_an_executor_is_named(name: str, odd: Executor[Any], text: str) -> None:
    breaks(check_executor, text, odd, without=only(EXECUTOR, name))


def test_every_property_of_executors_is_broken() -> None:
    assert {name for name, *_ in EXECUTORS} == names(EXECUTOR)


# ---- reporters and commands -------------------------------------------------------------------------------


def rewrites(event: Any) -> None:
    if isinstance(event, StepDone):
        object.__setattr__(event, "name", "x")


def knows_all(event: Any) -> None:
    if type(event).__name__ == "LaterEvent":
        raise KeyError("unknown")


@pytest.mark.parametrize(
    ("name", "report", "text"),
    [
        ("hears", knows_all, "it raises KeyError for LaterEvent"),
        ("quiet", print, "to the standard output where `display.style` is 'none'"),
        ("events", rewrites, "it changes an event"),
    ],
)
def test_a_fault_of_a_reporter_is_named(name: str, report: Callable[[Any], None], text: str) -> None:
    check_reporter(lambda event: None)
    breaks(check_reporter, text, report, without=only(REPORTER, name))
    assert names(REPORTER) == {"hears", "quiet", "events"}


@click.command()
@click.argument("words", nargs=-1)
@click.option("--loud", is_flag=True, help="Loudly.")
def say(words: tuple[str, ...], loud: bool) -> None:
    """Say WORDS."""
    if "no" in words:
        raise click.ClickException("no")


def test_faults_of_commands_are_named() -> None:
    check_command(say, "yes")
    check_command(say, "no", exit_code=1)
    breaks(check_command, 'called with ["no"] it ends with the exit code 1, not 0: Error: no', say, "no")
    bare = click.Command("bare", params=[click.Option(["--x"])], callback=lambda x: None)
    breaks(check_command, "it has no help", bare, without=only(COMMAND, "help"))
    breaks(check_command, "the option --x has no help", bare, without=only(COMMAND, "options"))
    lax = click.Command(
        "lax",
        callback=lambda: None,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    breaks(
        check_command, "an unknown option ends with the exit code 0", lax, without=only(COMMAND, "unknown")
    )
    assert names(COMMAND) == {"help", "options", "unknown", "runs"}


# ---- recipes -----------------------------------------------------------------------------------------------


class Soup(Params):
    """A document of a soup."""

    soup: tuple[str, ...] = Field(description="the models")


class Silent(Params):
    """The same, without a word about it."""

    soup: tuple[str, ...]


def is_soup(document: Any) -> bool:
    return "soup" in document


def compile_soup(document: Document, planner: Planner) -> Plan:
    listed = [{"model": one, "parameters": {"weight": 1}} for one in planner.read_document(Soup).soup]
    return planner.compile({"merge_method": "linear", "models": listed})


SOUP = Recipe(name="soup", accepts=is_soup, compile=compile_soup, schema=Soup)


def careless(document: Document, planner: Planner) -> Plan:
    listed = [{"model": one, "parameters": {"weight": 1}} for one in document.data["soup"]]  # type: ignore[union-attr]
    return planner.compile({"merge_method": "linear", "models": listed})


def shuffling(document: Document, planner: Planner) -> Plan:
    made = compile_soup(document, planner)
    return replace(made, steps=tuple(drawn.sample(made.steps, len(made.steps))))


def littering(document: Document, planner: Planner) -> Plan:
    folder = Path(str(document.data["soup"][0])).parent  # type: ignore[index]
    (folder / f"litter{drawn.random()}").touch()
    return compile_soup(document, planner)


def lacking(document: Document, planner: Planner) -> Plan:
    made = compile_soup(document, planner)
    return replace(made, steps=made.steps[1:])


def changing(document: Document, planner: Planner) -> Plan:
    made = compile_soup(document, planner)
    return replace(made, side_files={**made.side_files, "x": str(drawn.random()).encode()}, side_digests={})


RECIPES: list[tuple[str, Recipe, str]] = [
    ("accepts", replace(SOUP, accepts=lambda document: False), "`accepts` returns False for the document"),
    ("others", replace(SOUP, accepts=lambda document: True), "return False for what is no document of it"),
    ("schema", replace(SOUP, schema=Silent), "the key 'soup' of its schema has no description"),
    ("keys", replace(SOUP, compile=careless), "it ignores a key that it does not know"),
    ("same", replace(SOUP, compile=shuffling), "planned twice, the steps or their places differ"),
    ("quiet", replace(SOUP, compile=littering), "planning writes files, such as litter"),
    ("made", replace(SOUP, compile=lacking), "1 tensor not made, the first is"),
    ("threads", replace(SOUP, compile=changing), "with 4 threads, other bytes are made in "),
]


def test_a_recipe_that_keeps_everything_passes(tmp_path: Path) -> None:
    models = [str(tiny_model(tmp_path / name, seed=seed)) for seed, name in enumerate("ab")]
    check_recipe(SOUP, {"soup": models})


@pytest.mark.parametrize(("name", "odd", "text"), RECIPES, ids=[name for name, *_ in RECIPES])
def test_a_fault_of_a_recipe_is_named(name: str, odd: Recipe, text: str, tmp_path: Path) -> None:
    models = [str(tiny_model(tmp_path / name, seed=seed)) for seed, name in enumerate("ab")]
    breaks(check_recipe, text, odd, {"soup": models}, without=only(RECIPE, name))


def test_every_property_of_recipes_is_broken() -> None:
    assert {name for name, *_ in RECIPES} == names(RECIPE)
