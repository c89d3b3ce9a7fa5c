"""Routers of two made-up languages: text that nobody has seen goes to the right expert."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks import languages, routers
from benchmarks.routers import MODES, Routed, Task, built, measure

SHORT = languages.Schedule(base_steps=160, tune_steps=40, width=32, layers=2)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return routers.of_languages(tmp_path_factory.mktemp("languages"), SHORT)
    finally:
        torch.set_num_threads(before)


def routed(task: Task, mode: str, out: Path, **changes: object) -> Routed:
    built(task, mode, out / mode, **changes)
    return measure(out / mode, task.texts)


def test_fitted_routers_send_nine_of_ten_tokens_to_the_right_expert_and_means_do_not(
    task: Task, tmp_path: Path
) -> None:
    """Half of the words are in both languages; the sentences are none of the prompts."""
    fitted, hidden = routed(task, "router_input", tmp_path), routed(task, "hidden", tmp_path)
    assert fitted.right is not None
    assert fitted.worst is not None
    assert hidden.right is not None
    assert fitted.right > 0.9
    assert fitted.worst > 0.9
    assert fitted.right > hidden.right + 0.03
    assert fitted.share == pytest.approx(0.9, abs=0.05)


def test_no_sentence_that_is_routed_is_a_prompt(task: Task) -> None:
    prompts = {one for texts in task.prompts.values() for one in texts}
    texts = {language: languages.sentences(language, routers.UNSEEN, seed=-2) for language in task.experts}
    assert not prompts & {one for every in texts.values() for one in every}
    shared = [{word for one in every for word in one.split()} for every in texts.values()]
    assert languages.SHARED / 2 < len(shared[0] & shared[1]) <= languages.SHARED


def test_an_expert_knows_its_language_and_a_dense_model_has_no_router(task: Task) -> None:
    base, north = measure(task.base, task.texts), measure(task.experts["north"], task.texts)
    assert (base.right, base.share) == (None, None)
    assert north.perplexities[0] < base.perplexities[0]
    assert north.perplexities[1] > base.perplexities[1]


def test_every_mode_of_the_table_can_be_written(task: Task) -> None:
    from mergecore_plugins.moe.gating import MODES as KNOWN

    assert {*MODES} | {"hidden_last"} == {*KNOWN}
    assert task.document("hidden")["experts"][1]["positive_prompts"] == [*task.prompts["south"]]
