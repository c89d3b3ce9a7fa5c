"""Passes that go from layer to layer together."""

from __future__ import annotations

import threading

import pytest

from mergecore import MergeError
from mergecore_plugins.activations.lockstep import Lockstep


def test_all_passes_go_through_a_layer_before_the_next_one_is_brought() -> None:
    told: list[str] = []
    steps = Lockstep(lambda layer: told.append(f"+{layer}"), lambda layer: told.append(f"-{layer}"))

    def work(index: int) -> None:
        for layer in "ab":
            steps.arrive(layer)
            assert steps.running == index
            told.append(f"{layer}{index}")

    steps.run(3, work)
    assert told == ["+a", "a0", "a1", "a2", "-a", "+b", "b0", "b1", "b2", "-b"]


def test_a_layer_that_is_used_again_is_brought_again() -> None:
    brought: list[str] = []
    steps = Lockstep(brought.append, lambda layer: None)

    def work(index: int) -> None:
        for layer in "abab":
            steps.arrive(layer)

    steps.run(2, work)
    assert brought == ["a", "b", "a", "b"]


@pytest.mark.parametrize("where", ["a pass", "bringing", "putting away"])
def test_an_error_ends_all_passes_and_is_raised(where: str) -> None:
    def bring(layer: str) -> None:
        if where == "bringing" and layer == "b":
            raise ValueError("cannot")

    def put_away(layer: str) -> None:
        if where == "putting away":
            raise ValueError("cannot")

    steps = Lockstep(bring, put_away)
    ended: list[int] = []

    def work(index: int) -> None:
        try:
            steps.arrive("a")
            if where == "a pass" and index == 1:
                raise ValueError("cannot")
            steps.arrive("b")
        finally:
            ended.append(index)

    before = threading.active_count()
    with pytest.raises(ValueError, match="cannot"):
        steps.run(3, work)
    assert sorted(ended) == [0, 1, 2] or (where == "a pass" and len(ended) == 3)
    assert threading.active_count() == before


def test_no_pass_is_no_layer() -> None:
    told: list[str] = []
    Lockstep(told.append, told.append).run(0, lambda index: told.append("passed"))
    assert told == []


def test_a_thread_that_cannot_begin_ends_those_that_did(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    begun: list[threading.Thread] = []

    def refuse(self: threading.Thread) -> None:
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begun.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    steps = Lockstep(lambda layer: None, lambda layer: None)
    passed: list[int] = []
    with pytest.raises(
        MergeError, match=r"the texts are 5 batches, each in a thread.* no more than 2"
    ) as caught:
        steps.run(5, passed.append)
    assert caught.value.code == "E406"
    assert "allow more, such as with `ulimit -u`, or use fewer texts" in str(caught.value)
    assert passed == []
    assert not any(one.is_alive() for one in begun)
