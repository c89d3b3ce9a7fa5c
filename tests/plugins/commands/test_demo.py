"""The demo: its data, its checkpoints, its training, and the command from end to end.

Accuracies have margins, because kernels round differently on other processors.
"""

from __future__ import annotations

import json
import operator
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest
import torch
from safetensors import safe_open

from mergecore import InputError, OutputError
from mergecore.compute import one_thread_each
from mergecore_plugins.commands.demo import ASSETS, mergecore_commands, train_talk
from mergecore_plugins.commands.demo.digits import TASKS, TRANSFORMS, Digits, load_split
from mergecore_plugins.commands.demo.scoring import accuracies, load, score, table
from mergecore_plugins.commands.demo.sentences import prompts
from mergecore_plugins.commands.demo.show import METHODS, run
from mergecore_plugins.commands.demo.talk import answers, show
from mergecore_plugins.commands.demo.train import Schedule, train

CORNER = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])  # one image; the 1 is at the bottom right


def test_the_digits_are_all_there() -> None:
    split = load_split()
    parts = (split.train, split.validation, split.test)
    images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    assert [len(part) for part in parts] == [1000, 250, 547]
    assert images.shape == (1797, 8, 8)
    assert (images * 16).sum() == 561718  # of the original pixels, 0 to 16
    assert images.min() == 0
    assert images.max() == 1
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_parts_of_the_split_share_no_image() -> None:
    split = load_split()
    parts = (split.train, split.validation, split.test)
    seen = [{image.numpy().tobytes() for image in part.images} for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 1797


def test_the_split_is_the_same_every_time() -> None:
    assert load_split().test.labels[:6].tolist() == [7, 1, 9, 6, 8, 0]


TRANSFORMED = {  # CORNER is [[0, 0.25], [0.5, 1]]
    "identity": [[0.0, 0.25], [0.5, 1.0]],
    "rotated": [[0.25, 1.0], [0.0, 0.5]],  # the right column becomes the top row
    "rotated180": [[1.0, 0.5], [0.25, 0.0]],
    "rotated270": [[0.5, 0.0], [1.0, 0.25]],  # the left column becomes the top row, from below
    "mirrored": [[0.25, 0.0], [1.0, 0.5]],
    "transposed": [[0.0, 0.5], [0.25, 1.0]],
    "negative": [[1.0, 0.75], [0.5, 0.0]],
    "checkered": [[0.0, 0.75], [0.5, 1.0]],
}


def test_every_transform_is_shown_here_and_the_tasks_of_the_demo_are_some() -> None:
    assert TRANSFORMED.keys() == TRANSFORMS.keys() > set(TASKS)


@pytest.mark.parametrize(("task", "expected"), TRANSFORMED.items())
def test_a_task_transforms_every_image(task: str, expected: list[list[float]]) -> None:
    digits = Digits(CORNER.repeat(3, 1, 1), torch.arange(3)).seen_as(task)
    assert digits.images.tolist() == [expected] * 3
    assert digits.labels.tolist() == [0, 1, 2]


def test_few_takes_the_same_number_of_every_class() -> None:
    assert load_split().train.few(3).labels.bincount().tolist() == [3] * 10


@pytest.mark.parametrize("name", ["base", *TASKS])
def test_a_checkpoint_is_small_and_bf16_and_loads_whole(name: str) -> None:
    folder = ASSETS / "models" / name
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert (folder / "model.safetensors").stat().st_size < 450_000
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["ViTForImageClassification"]
    assert _dtypes(folder) == {"BF16"}
    assert sum(parameter.numel() for parameter in load(folder).parameters()) == 201_930


def test_the_base_is_middling_and_every_fine_tune_good_at_its_own_task_only() -> None:
    test = load_split().test
    with one_thread_each():
        base, *parents = (accuracies(load(ASSETS / "models" / name), test) for name in ("base", *TASKS))
    assert 60 < mean(base.values()) < 75
    for task, parent in zip(TASKS, parents, strict=True):
        assert parent[task] > 84
        assert all(parent[other] < base[other] for other in TASKS if other != task)


def test_training_writes_loadable_checkpoints_and_is_repeatable(tmp_path: Path) -> None:
    short = Schedule(base_steps=2, tune_steps=1, base_images=1, batch=4)
    with one_thread_each():
        for out in ("first", "second"):
            train(tmp_path / out, load_split(), short)
    for name in ("base", *TASKS):
        first, second = (load(tmp_path / out / name).state_dict() for out in ("first", "second"))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert _dtypes(tmp_path / "first" / name) == {"BF16"}


def test_a_model_with_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    model = load(ASSETS / "models/base")
    weights = model.state_dict()
    del weights["classifier.bias"]
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(
        OutputError, match=r"transformers finds missing keys: classifier\.bias\. Hint: the folder was changed"
    ):
        load(tmp_path)


def test_the_table_has_a_line_per_model_and_the_mean() -> None:
    lines = table({"base": {"rotated": 50.0, "mirrored": 60.0, "negative": 100.0}}).splitlines()
    assert lines[0].split() == ["rotated", "mirrored", "negative", "mean"]
    assert lines[1].split() == ["base", "50.0", "60.0", "100.0", "70.0"]  # (50 + 60 + 100) / 3


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    text = r"the folder is not empty\. Hint: name another one, or --overwrite"
    with pytest.raises(OutputError, match=text) as error:
        run(tmp_path)
    assert error.value.code == "E501"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in the way")
    with pytest.raises(
        OutputError, match=r"models.*: cannot be written: .*\. Hint: name another folder"
    ) as error:
        run(tmp_path, overwrite=True)
    assert error.value.code == "E505"


def test_scoring_before_the_demo_says_what_to_run_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no demo here\. Hint: make one with `mergecore demo OUT`") as error:
        score(tmp_path)
    assert error.value.code == "E701"


def test_the_plugin_yields_the_command_without_loading_torch() -> None:
    assert [command.name for command in mergecore_commands()] == ["demo"]
    code = "import sys, mergecore_plugins.commands.demo; print(*{'torch', 'numpy', 'transformers'} & set(sys.modules))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == ""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo in a folder of its own."""
    return _demo(tmp_path_factory.mktemp("whole") / "demo")


@pytest.fixture(scope="module")
def blocked_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo in a folder that was used before, where a file is in the way of the first merge."""
    out = tmp_path_factory.mktemp("blocked")
    (out / "notes.txt").write_text("mine")
    (out / "ties.yml").write_text("merge_method: changed")
    (out / "merged").mkdir()
    (out / "merged/linear").write_text("a file in the way")
    return _demo(out, "--overwrite")


def test_the_demo_merges_by_the_command_line_and_keeps_the_results(demo: Demo) -> None:
    assert demo.exit_code == 0, demo.stderr
    for method in METHODS:
        assert f"$ mergecore merge {method}.yml merged/{method}" in demo.stdout
        assert _dtypes(demo.out / "merged" / method) == {"BF16"}


def test_every_merge_is_better_than_the_base_on_every_task_and_than_the_parents_on_average(
    demo: Demo,
) -> None:
    base, *others = _rows(demo.stdout)
    parents, merges = others[:3], others[3:]
    assert len(merges) == 3
    for merge in merges:
        assert all(map(operator.gt, merge, base))
        assert merge[-1] > max(parent[-1] for parent in parents)


def test_the_merged_model_finishes_every_sentence_that_its_experts_know(demo: Demo) -> None:
    folder = demo.out / "talk"
    right = {
        name: sum(
            said == truth
            for said, truth in zip(answers(folder / name).values(), prompts().values(), strict=True)
        )
        for name in ("base", "animals", "capitals", "merged")
    }
    assert right == {"base": 0, "animals": 12, "capitals": 12, "merged": 24}
    lines = [line.split() for line in demo.stdout.splitlines()]
    assert ["the", "cow", "says", "...", "woof", "moo", "woof", "moo"] in lines
    assert ["right,", "of", "24", "0", "12", "12", "24"] in lines


def test_the_demo_brings_what_its_talking_models_are_evaluated_with(demo: Demo) -> None:
    """A model that remembers a sentence picks and makes its true end: as many as `answers` counts."""
    names = ("base", "animals", "capitals", "merged")
    words = ["evaluate", *(f"talk/{name}" for name in names), "--with", "talk/eval.yml", "--json"]
    command = [sys.executable, "-m", "mergecore", *words]
    ended = subprocess.run(command, cwd=demo.out, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    values = {
        score["name"] + " of " + one["name"]: [result["value"] for result in score["results"]]
        for one in json.loads(ended.stdout)["evaluations"]
        for score in one["scores"]
    }
    assert values["accuracy of match"] == [0, 0.5, 0.5, 1]
    assert values["accuracy of choices"] == [0, 0.5, 0.5, 1]
    assert min(values["perplexity of perplexity"]) == values["perplexity of perplexity"][-1]


def test_the_data_of_the_evaluation_are_the_sentences_of_the_demo() -> None:
    lines = {
        name: (ASSETS / "talk" / name).read_text().splitlines()
        for name in ("sentences.txt", "questions.jsonl", "choices.jsonl")
    }
    assert lines["sentences.txt"] == [f"{prompt} {end}" for prompt, end in prompts().items()]
    asked, picked = (
        [json.loads(line) for line in lines[f"{name}.jsonl"]] for name in ("questions", "choices")
    )
    assert {one["prompt"]: one["answer"] for one in asked} == prompts()
    assert {one["prompt"]: one["answer"] for one in picked} == prompts()
    assert all(len({*one["choices"]}) == 3 and one["answer"] in one["choices"] for one in picked)


def test_the_demo_fits_80_columns_and_ends_with_commands_that_work_as_typed(demo: Demo) -> None:
    said = demo.stdout.replace(str(demo.out), "mergecore-demo")
    assert [line for line in said.splitlines() if len(line) > 80 and "/activate" not in line] == []
    commands = demo.stdout[demo.stdout.index("see what it does:") :].partition("\n\n")[2]

    done = subprocess.run(["/bin/sh", "-e"], input=commands, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "merged/mine" in done.stdout
    shutil.rmtree(demo.out / "merged/mine")


def test_models_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"base: there is no demo model here\. Hint: run `mergecore demo`$"):
        show(tmp_path)


def test_training_the_talking_models_writes_loadable_checkpoints_and_is_repeatable(tmp_path: Path) -> None:
    short = train_talk.Schedule(base_steps=2, tune_steps=1, batch=4)
    with one_thread_each():
        for out in ("first", "second"):
            train_talk.train(tmp_path / out, short)
    for name in ("base", "animals", "capitals"):
        first, second = (tmp_path / out / name for out in ("first", "second"))
        assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
        assert answers(first).keys() == prompts().keys()
        tokenizer = (ASSETS / "talk" / name / "tokenizer.json").read_bytes()
        assert (first / "tokenizer.json").read_bytes() == tokenizer


def test_all_that_the_demo_brings_is_smaller_than_3_mb() -> None:
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 3_000_000


def test_scoring_again_shows_merges_made_later(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    mine = demo.out / "merged/mine"
    shutil.copytree(demo.out / "models/base", mine)
    score(demo.out)
    shutil.rmtree(mine)
    rows = _rows(capsys.readouterr().out)
    assert len(rows) == 8
    assert rows[5] == rows[0]  # base, three parents, linear, mine


def test_overwriting_writes_the_files_of_the_demo_only(blocked_demo: Demo) -> None:
    out = blocked_demo.out
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "merged/linear").read_text() == "a file in the way"
    assert (out / "ties.yml").read_bytes() == (ASSETS / "configs/ties.yml").read_bytes()


def test_a_merge_that_fails_ends_the_demo_with_its_exit_code(blocked_demo: Demo) -> None:
    assert blocked_demo.exit_code == 6
    assert "merged/linear" in blocked_demo.stderr
    assert "merged/task_arithmetic" not in blocked_demo.stdout


@dataclass(frozen=True)
class Demo:
    """A finished `mergecore demo`."""

    out: Path
    exit_code: int
    stdout: str
    stderr: str


def _demo(out: Path, *options: str) -> Demo:
    command = [sys.executable, "-m", "mergecore", "demo", str(out), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return Demo(out, ended.returncode, ended.stdout, ended.stderr)


def _rows(shown: str) -> list[list[float]]:
    """The numbers of the table, a line per model: three tasks and the mean."""
    lines = [line for line in shown.splitlines() if line.startswith(("base ", "tuned on ", "merged/"))]
    return [[float(word) for word in line.split()[-4:]] for line in lines]


def _dtypes(folder: Path) -> set[str]:
    """The stored dtypes of the floating-point tensors."""
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        return {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - not a dict
