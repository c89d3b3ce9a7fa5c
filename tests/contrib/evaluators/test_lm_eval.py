"""The evaluator `lm_eval`: its numbers are those that lm-eval's own command prints for the folder of the model."""

from __future__ import annotations

import importlib.metadata
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval_tasks import QUESTIONS, write_task, write_tasks
from refusals import refusal
from tiny import registry

from mergecore import merge
from mergecore.testing import check_evaluator, tiny_model
from mergecore.types import EvaluationProgress, Score
from mergecore_contrib.evaluators import lm_eval
from mergecore_contrib.evaluators.extras import versioned
from mergecore_contrib.evaluators.lm_eval import LmEvalParams
from mergecore_plugins.evaluation.models import PlannedModel, opened

pytest.importorskip("lm_eval", reason="lm_eval is not installed: make lm-eval")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # lm-eval and what it imports
]

ALL = ("pick", "say", "go_on", "read")
TEMPLATE = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A merge of two tiny models."""
    models = [tiny_model(tmp_path / f"model-{seed}", seed=seed, dtype="bfloat16") for seed in (3, 4)]
    for model in models:
        settings = json.loads((model / "tokenizer_config.json").read_text())
        (model / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    return {
        "merge_method": "linear",
        "models": [{"model": str(one), "parameters": {"weight": 0.5}} for one in models],
    }


def scores(model: PlannedModel, params: LmEvalParams) -> dict[str, Score]:
    return {one.name: one for one in lm_eval.scores_of(model, params, lambda progress: None)}


def command(
    folder: Path, tasks: Path, out: Path, *options: str
) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """What `lm_eval` prints for a folder, and the values of its samples, by the names that scores have."""
    words = [
        "--model",
        "hf",
        "--model_args",
        f"pretrained={folder}",
        "--device",
        "cpu",
        "--tasks",
        ",".join(ALL),
    ]
    words += ["--include_path", str(tasks), "--output_path", str(out), "--log_samples", *options]
    subprocess.run([sys.executable, "-m", "lm_eval", *words], check=True, capture_output=True)
    (file,) = out.rglob("results_*.json")
    values: dict[str, float] = {}
    samples: dict[str, list[Any]] = {}
    for task, metrics in json.loads(file.read_text())["results"].items():
        (rows_file,) = out.rglob(f"samples_{task}_*.jsonl")
        rows = sorted(map(json.loads, rows_file.read_text().splitlines()), key=lambda row: int(row["doc_id"]))
        for key, value in metrics.items():
            metric, _, kept = key.partition(",")
            if kept == "none" and not metric.endswith("_stderr"):
                values[f"{task}/{metric}"] = value
                samples[f"{task}/{metric}"] = [row[metric] for row in rows]
    return values, samples


@pytest.mark.parametrize(
    ("options", "params"),
    [
        ((), {}),
        (
            ("--num_fewshot", "2", "--batch_size", "3", "--limit", "5", "--seed", "7"),
            {"num_fewshot": 2, "batch_size": 3, "limit": 5, "seed": 7},
        ),
        (
            ("--apply_chat_template", "--system_instruction", "in the hat", "--gen_kwargs", "max_gen_toks=3"),
            {"apply_chat_template": True, "system_instruction": "in the hat", "gen_kwargs": "max_gen_toks=3"},
        ),
    ],
    ids=["plain", "few shots", "chat"],
)
def test_scores_of_a_merge_that_is_not_written_are_those_of_the_command_on_the_folder(
    options: tuple[str, ...], params: dict[str, Any], config: dict[str, Any], tasks: Path, tmp_path: Path
) -> None:
    folder = merge(config, tmp_path / "merged", registry=registry())
    told, rows = command(folder, tasks, tmp_path / "out", *options)
    found = scores(opened(config), LmEvalParams(tasks=ALL, include_path=tasks, **params))
    assert {name: one.value for name, one in found.items()} == told
    assert set(told) == {
        *("pick/acc", "pick/acc_norm", "say/exact_match", "go_on/perplexity", "go_on/acc"),
        *("read/word_perplexity", "read/bits_per_byte"),
    }
    for name in ("pick/acc", "pick/acc_norm", "say/exact_match", "go_on/acc"):
        assert list(found[name].per_sample) == rows[name]
    assert [-one for one in found["go_on/perplexity"].per_sample] == rows["go_on/perplexity"]
    for number, (likelihood, words) in enumerate(rows["read/word_perplexity"]):
        assert found["read/word_perplexity"].per_sample[number] == -likelihood / words


def test_values_are_the_means_of_their_samples_and_have_a_direction(
    config: dict[str, Any], tasks: Path
) -> None:
    found = scores(opened(config), LmEvalParams(tasks=ALL, include_path=tasks))
    for one in found.values():
        weights = one.weights or (1.0,) * one.samples
        assert one.samples == len(one.per_sample) == len(weights) == len(QUESTIONS)
        mean = sum(a * b for a, b in zip(one.per_sample, weights, strict=True)) / sum(weights)
        assert one.value == pytest.approx(math.exp(mean) if one.scale == "exp" else mean)
    down = {name for name, one in found.items() if one.goal == "min"}
    assert down == {"go_on/perplexity", "read/word_perplexity", "read/bits_per_byte"}


def test_answers_that_are_cut_off_or_empty_are_counted(tmp_path: Path, tasks: Path) -> None:
    """All weights are equal, so the model says one token again and again, until it may not, or until this stops it."""
    model = opened(tiny_model(tmp_path / "model", value=0.01))
    tokens = torch.tensor([model.tokenizer()("the")["input_ids"]])
    word = model.tokenizer().decode(
        model.module().generate(tokens, max_new_tokens=1, do_sample=False)[0, -1:]
    )
    assert word.strip()
    for name, until, shares in (("on", "\n", (1.0, 0.0)), ("off", word, (0.0, 1.0))):
        file = write_task(
            tmp_path,
            name,
            output_type="generate_until",
            doc_to_target="{{next}}",
            dataset_kwargs={"data_files": {"test": str(tasks / "data.jsonl")}},
            generation_kwargs={"until": [until], "max_gen_toks": 6},
            metric_list=[{"metric": "exact_match"}],
        )
        (said,) = scores(model, LmEvalParams(tasks=(str(file),))).values()
        assert (said.truncated, said.empty) == shares


def test_a_group_has_the_score_that_lm_eval_gives_it(
    config: dict[str, Any], tasks: Path, tmp_path: Path
) -> None:
    folder = write_tasks(tmp_path / "grouped")
    group = {"group": "both", "task": ["pick", "go_on"], "aggregate_metric_list": [{"metric": "acc"}]}
    (folder / "both.yaml").write_text(json.dumps(group))
    found = scores(opened(config), LmEvalParams(tasks=("both",), include_path=folder))
    assert found["both/acc"].value == (found["pick/acc"].value + found["go_on/acc"].value) / 2
    assert (found["both/acc"].samples, found["both/acc"].per_sample) == (2 * len(QUESTIONS), ())


def test_it_keeps_what_every_evaluator_has_to(tasks: Path) -> None:
    (evaluator,) = lm_eval.mergecore_evaluators()
    check_evaluator(evaluator, params={"tasks": list(ALL), "include_path": str(tasks)})


def test_it_tells_how_far_it_is_and_leaves_random_numbers_and_tokenizer(
    config: dict[str, Any], tasks: Path
) -> None:
    told: list[EvaluationProgress] = []
    model = opened(config)
    before = model.tokenizer().pad_token
    random.seed(1)
    wanted = random.random()
    random.seed(1)
    list(lm_eval.scores_of(model, LmEvalParams(tasks=ALL, include_path=tasks), told.append))
    assert random.random() == wanted
    assert model.tokenizer().pad_token == before
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert (told[-1].done, told[-1].total) == (4 * len(QUESTIONS), 4 * len(QUESTIONS))
    assert len(told) > len(QUESTIONS)


def test_a_backend_that_reads_a_folder_gets_one_of_the_merge(config: dict[str, Any], tasks: Path) -> None:
    found = scores(opened(config), LmEvalParams(tasks=("pick",), include_path=tasks, backend="dummy"))
    assert found["pick/acc"].samples == len(QUESTIONS)


# ---- what is identified, and what is refused ---------------------------------------------------------------


def test_files_are_those_of_the_tasks_and_their_data(tasks: Path, tmp_path: Path) -> None:
    (version,) = versioned("lm_eval", "lm-eval")
    assert f"Version: {importlib.metadata.version('lm_eval')}" in version.read_text(encoding="utf8")
    found = set(lm_eval.files(LmEvalParams(tasks=("pick",), include_path=tasks)))
    assert found == {version, *tasks.glob("*.yaml"), tasks / "data.jsonl"}
    alone = write_task(
        tmp_path,
        "alone",
        dataset_kwargs={"data_files": [str(tasks / "data.jsonl")]},
        output_type="loglikelihood",
    )
    assert set(lm_eval.files(LmEvalParams(tasks=(str(alone),)))) == {*versioned("lm_eval", "lm-eval")} | {
        alone,
        tasks / "data.jsonl",
    }


def test_a_task_whose_data_are_on_the_hub_is_a_public_test_set(tasks: Path) -> None:
    assert lm_eval.public_test_set(LmEvalParams(tasks=("arc_easy",))) == "arc_easy"
    assert (
        lm_eval.public_test_set(
            LmEvalParams(
                tasks=(
                    "pick",
                    "say",
                ),
                include_path=tasks,
            )
        )
        is None
    )


def check(**values: Any) -> str:
    return refusal(lambda: lm_eval.check(LmEvalParams(**values), ()))


def test_tasks_that_are_not_there_are_refused(tasks: Path, tmp_path: Path) -> None:
    assert "E105 lm-eval has no task 'pik'; did you mean 'pick'?" in check(tasks=("pik",), include_path=tasks)
    assert "lists them; those of your own are in include_path" in check(tasks=("arc_eassy",))
    assert "E105 include_path: there is no folder" in check(tasks=("pick",), include_path=tmp_path / "none")
    assert "name the folder with the YAML files" in check(tasks=("pick",), include_path=tmp_path / "none")


def test_tasks_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    file = write_task(tmp_path, "gone", output_type="loglikelihood")
    said = check(tasks=(str(file),))
    assert said.startswith("E105 lm-eval cannot make the task")
    assert "correct its YAML file" in said
    file.write_text("task: [broken")
    assert check(tasks=(str(file),)).startswith("E105 lm-eval cannot make the task")
    assert set(lm_eval.files(LmEvalParams(tasks=(str(file),)))) == {*versioned("lm_eval", "lm-eval"), file}


def test_tasks_without_samples_or_with_wrong_ones_are_refused(tmp_path: Path, tasks: Path) -> None:
    data = {"data_files": {"test": str(tasks / "data.jsonl")}}
    odd = write_task(
        tmp_path, "odd", output_type="loglikelihood", doc_to_target="{{nex}}", dataset_kwargs=data
    )
    said = check(tasks=(str(odd),))
    assert said.startswith(f"E105 lm-eval cannot make the task '{odd}': 'nex' is undefined")
    none = write_task(
        tmp_path, "none", output_type="loglikelihood", doc_to_target="{{next}}", dataset_kwargs=data
    )
    (tmp_path / "few.py").write_text("def none(rows):\n    return rows.select([])\n")
    none.write_text(none.read_text()[:-1] + ', "process_docs": !function few.none}')
    said = check(tasks=(str(none),))
    assert said.startswith(f"E105 lm-eval cannot make the task '{none}': it has no samples")


def test_tasks_for_models_that_see_need_another_backend(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.task import ConfigurableTask

    monkeypatch.setattr(ConfigurableTask, "MULTIMODAL", True, raising=False)
    said = check(tasks=("pick",), include_path=tasks)
    assert "the task 'pick' shows pictures or sounds, which the backend hf cannot" in said
    assert "name another one, such as backend: hf-multimodal" in said


def test_what_lm_eval_stops_at_is_told_but_not_what_the_watch_raises(tmp_path: Path, tasks: Path) -> None:
    model = opened(tiny_model(tmp_path / "model"))
    params = LmEvalParams(tasks=("say",), include_path=tasks, gen_kwargs="max_gen_toks=100000")
    said = refusal(lambda: scores(model, params))
    assert said.startswith("E105 lm-eval stopped at say: Invalid configuration")
    assert "look at the task and at the parameters; --debug shows more" in said

    def enough(progress: EvaluationProgress) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        list(lm_eval.scores_of(model, LmEvalParams(tasks=("pick",), include_path=tasks), enough))


def test_tasks_on_a_hub_that_cannot_be_reached_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    said = check(tasks=("arc_easy",))
    assert said.startswith("E704 the data of the task 'arc_easy' cannot be had")
    assert "they are on the hub: be online once" in said


def test_a_task_that_runs_code_is_refused_unless_it_is_allowed(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.task import ConfigurableTask

    monkeypatch.setattr(ConfigurableTask, "UNSAFE_CODE", True, raising=False)
    said = check(tasks=("pick",), include_path=tasks)
    assert "E105 the task 'pick' runs code that the model writes" in said
    assert "confirm_run_unsafe_code: true allows it" in said
    lm_eval.check(LmEvalParams(tasks=("pick",), include_path=tasks, confirm_run_unsafe_code=True), ())


def test_arguments_that_would_have_no_effect_are_refused(tasks: Path) -> None:
    def given(text: str, backend: str = "hf") -> str:
        return check(tasks=("pick",), include_path=tasks, model_args=text, backend=backend)

    assert "model_args: 'max_lenght' has no effect on a model in memory; did you mean 'max_length'?" in given(
        "max_lenght=5"
    )
    assert "these have one: add_bos_token" in given("dtype=float16")
    assert "'pretrained' is given by mergecore" in given("pretrained=x", "dummy")
    assert "batch_size is a parameter, the device an option" in given("device=cuda")
    assert "E105 lm-eval has no backend 'dumy'; did you mean 'dummy'?" in given("", "dumy")
    assert "Hint: these there are: " in given("", "dumy")


def test_a_backend_that_cannot_be_imported_is_refused(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api import registry as backends

    def lacking(name: str) -> None:
        raise ModuleNotFoundError("No module named 'vllm'")

    monkeypatch.setattr(backends, "get_model", lacking)
    said = check(tasks=("pick",), include_path=tasks, backend="vllm")
    assert "the backend 'vllm' of lm-eval cannot be imported: No module" in said
    assert "install what it needs, or leave out backend" in said


def test_models_that_lack_a_template_or_do_not_make_text_are_refused(tmp_path: Path, tasks: Path) -> None:
    params = LmEvalParams(tasks=("pick",), include_path=tasks, apply_chat_template=True)
    plain = opened(tiny_model(tmp_path / "plain"))
    said = refusal(lambda: lm_eval.check(params, (plain,)))
    assert said.startswith("E240 ")
    assert "it has no chat template" in said
    assert "leave out apply_chat_template, or give the model" in said
    reader = opened(tiny_model(tmp_path / "reader", "bert"))
    said = refusal(lambda: scores(reader, LmEvalParams(tasks=("pick",), include_path=tasks)))
    assert said.startswith("E224 ")
    assert "lm-eval needs a model that makes text" in said
    assert "Hint: evaluate a language model" in said


def test_a_task_without_a_number_is_refused(tmp_path: Path, tasks: Path) -> None:
    file = write_task(
        tmp_path, "mute", output_type="generate_until", doc_to_target="{{next}}",
        dataset_kwargs={"data_files": {"test": str(tasks / "data.jsonl")}},
        generation_kwargs={"until": ["\n"], "max_gen_toks": 2}, metric_list=[{"metric": "bypass"}],
    )  # fmt: skip
    model = opened(tiny_model(tmp_path / "model"))
    said = refusal(lambda: scores(model, LmEvalParams(tasks=(str(file),))))
    assert "E105 lm-eval gives no number for" in said
    assert "give the task a metric" in said
