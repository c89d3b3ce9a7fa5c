"""The executor of threads: every step and block once, idle workers help, errors stop everyone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from mergecore import NoParams
from mergecore.types import OutputTensor, RunStep, Step, StepResult, Workers, Written
from mergecore_plugins.executors.threads import run_threads, threads

WAIT = 60.0
"""Seconds after which a test that hangs fails."""

Work = Callable[[Step, Workers], object]


def steps(count: int) -> list[Step]:
    return [Step((OutputTensor(str(i), "F32", (1,)),), ()) for i in range(count)]


@dataclass
class Todo:
    """A job that needs nothing to be opened."""

    steps: Sequence[Step]
    run_step: RunStep
    workers: int

    @contextmanager
    def open(self) -> Iterator[RunStep]:
        yield self.run_step


def run(todo: Sequence[Step], work: Work, workers: int) -> list[str]:
    """The names of the finished steps."""

    def run_step(step: Step, crew: Workers) -> StepResult:
        work(step, crew)
        return StepResult(step.name, (Written(step.name, "", 0),))

    return [result.name for result in run_threads(Todo(todo, run_step, workers), NoParams())]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_every_step_and_every_block_is_done_once(workers: int) -> None:
    blocks: Counter[tuple[str, int]] = Counter()
    lock = threading.Lock()

    def work(step: Step, crew: Workers) -> None:
        def block(index: int) -> None:
            with lock:
                blocks[step.name, index] += 1

        for _ in range(2):  # two passes
            crew.for_each(int(step.name) % 5, block)

    assert sorted(run(steps(20), work, workers), key=int) == [str(i) for i in range(20)]
    assert blocks == {(str(i), index): 2 for i in range(20) for index in range(i % 5)}


@pytest.mark.parametrize("workers", [1, 4])
def test_no_steps_give_no_results(workers: int) -> None:
    assert run([], lambda step, crew: None, workers) == []


def test_one_worker_runs_in_the_thread_that_asks() -> None:
    threads = []
    run(steps(2), lambda step, crew: threads.append(threading.current_thread()), 1)
    assert set(threads) == {threading.current_thread()}


def test_workers_run_steps_side_by_side() -> None:
    together = threading.Barrier(3)
    assert len(run(steps(3), lambda step, crew: together.wait(WAIT), 3)) == 3


def test_idle_workers_help_with_the_blocks_of_one_tensor() -> None:
    """Three blocks that end only when all three are being worked on."""
    together = threading.Barrier(3)

    def block(index: int) -> None:
        together.wait(WAIT)

    assert run(steps(1), lambda step, crew: crew.for_each(3, block), 3) == ["0"]


def test_helpers_go_on_to_the_next_pass() -> None:
    together = threading.Barrier(2)

    def block(index: int) -> None:
        together.wait(WAIT)

    def work(step: Step, crew: Workers) -> None:
        for _ in range(5):
            crew.for_each(2, block)

    assert run(steps(1), work, 2) == ["0"]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_error_of_a_step_is_raised(workers: int) -> None:
    def work(step: Step, crew: Workers) -> None:
        if step.name == "3":
            raise ValueError("step 3")

    with pytest.raises(ValueError, match="step 3"):
        run(steps(10), work, workers)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_no_further_steps_begin_after_an_error(workers: int) -> None:
    begun: list[str] = []
    failed = threading.Event()

    def work(step: Step, crew: Workers) -> None:
        begun.append(step.name)
        if step.name == "0":
            failed.set()
            raise ValueError("step 0")
        assert failed.wait(WAIT)

    with pytest.raises(ValueError, match="step 0"):
        run(steps(1000), work, workers)
    assert len(begun) < 1000


def test_an_error_in_the_block_of_a_helper_is_raised() -> None:
    owner: list[threading.Thread] = []
    helping = threading.Event()

    def block(index: int) -> None:
        if threading.current_thread() is owner[0]:
            assert helping.wait(WAIT)
        else:
            helping.set()
            raise ValueError("in a helper")

    def work(step: Step, crew: Workers) -> None:
        owner.append(threading.current_thread())
        crew.for_each(1000, block)

    with pytest.raises(ValueError, match="in a helper"):
        run(steps(1), work, 2)


def test_an_error_in_a_block_of_the_owner_stops_the_helpers() -> None:
    owner: list[threading.Thread] = []
    helping, failed = threading.Event(), threading.Event()
    done: list[int] = []

    def block(index: int) -> None:
        if threading.current_thread() is owner[0]:
            assert helping.wait(WAIT)
            failed.set()
            raise ValueError("in the owner")
        helping.set()
        assert failed.wait(WAIT)
        done.append(index)

    def work(step: Step, crew: Workers) -> None:
        owner.append(threading.current_thread())
        crew.for_each(100_000, block)

    with pytest.raises(ValueError, match="in the owner"):
        run(steps(1), work, 3)
    assert len(done) < 100_000


def test_the_first_error_is_raised_and_not_that_others_were_stopped() -> None:
    """A step that makes errors of all exceptions, as the runner does, must not tell that it was stopped."""
    failed, going = threading.Event(), threading.Event()

    def work(step: Step, crew: Workers) -> None:
        if step.name == "0":
            assert going.wait(WAIT)
            failed.set()
            raise ValueError("the first")
        try:
            crew.for_each(10_000_000, block)
        except Exception as error:
            raise RuntimeError("the method failed") from error

    def block(index: int) -> None:
        going.set()
        assert failed.wait(WAIT)

    with pytest.raises(ValueError, match="the first"):
        run(steps(2), work, 2)


def test_a_run_that_is_given_up_ends_its_threads() -> None:
    def run_step(step: Step, crew: Workers) -> StepResult:
        return StepResult(step.name, (Written(step.name, "", 0),))

    results = run_threads(Todo(steps(1000), run_step, 3), NoParams())
    before = threading.active_count()
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert threading.active_count() == before


def test_a_crew_can_be_told_of_no_blocks() -> None:
    def never(index: int) -> None:
        raise AssertionError("there is no block")

    assert run(steps(3), lambda step, crew: crew.for_each(0, never), 2) == ["0", "1", "2"]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_threads_are_lent_for_passes_without_steps(workers: int) -> None:
    seen: Counter[int] = Counter()
    lock = threading.Lock()

    def block(index: int) -> None:
        with lock:
            seen[index] += 1

    with threads(workers) as crew:
        for count in (0, 1, 7, 100):
            crew.for_each(count, block)
    assert seen == Counter([0, *range(7), *range(100)])


def test_an_error_of_a_pass_ends_the_threads_that_were_lent() -> None:
    def block(index: int) -> None:
        raise ValueError(str(index))

    with pytest.raises(ValueError, match=r"\d+"), threads(3) as crew:
        crew.for_each(50, block)
