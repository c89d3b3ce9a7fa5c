"""`mergecore average`: which checkpoints of a run it finds, chooses and merges."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from fixture_types import Cli
from tiny import listing, llama, read_config, read_tensors, write_llama
from training_runs import write_run, write_state

from mergecore import MergecoreError, merge
from mergecore_plugins.averaging.choosing import Window, chosen, parse_steps, parse_tokens
from mergecore_plugins.averaging.runs import read_run


def value(folder: Path) -> float:
    """The one number that all tensors of a model consist of."""
    (found,) = {float(one) for tensor in read_tensors(folder).values() for one in tensor.flatten().unique()}
    return found


def steps(run: Path, **asked: object) -> list[int]:
    return [one.step for one in chosen(read_run(run), Window(**asked))]  # type: ignore[arg-type]


# ---- the whole ---------------------------------------------------------------------------------------------


def test_the_newest_checkpoints_are_averaged(tmp_path: Path, cli: Cli) -> None:
    """By number and not by name: 1000 is newer than 500.  (500 + 900 + 1000) / 3 = 800."""
    run = write_run(tmp_path / "run", 500, 900, 1000, 100)
    before = listing(run)
    outcome = cli("average", run, tmp_path / "out", "--last", "3")
    assert outcome.code == 0, outcome.err
    assert value(tmp_path / "out") == pytest.approx(800)
    assert outcome.out.splitlines()[0].split() == ["weight", "step", "checkpoint"]
    assert [line.split()[:2] for line in outcome.out.splitlines()[1:4]] == [
        ["0.333333", "500"],
        ["0.333333", "900"],
        ["0.333333", "1000"],
    ]
    assert listing(run) == before
    assert not any("optimizer" in name for name in listing(tmp_path / "out"))


def test_config_and_tokenizer_are_those_of_the_newest(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "run", 1, 2, 3)
    for step in (1, 2, 3):
        config = read_config(run / f"checkpoint-{step}") | {"use_cache": step == 3}
        (run / f"checkpoint-{step}" / "config.json").write_text(json.dumps(config))
        (run / f"checkpoint-{step}" / "chat_template.jinja").write_text(f"template {step}")
    assert cli("average", run, tmp_path / "out").code == 0
    assert read_config(tmp_path / "out")["use_cache"] is True
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "template 3"


def test_the_printed_config_gives_the_same_bytes(tmp_path: Path, cli: Cli) -> None:
    """100, 200 and 250 are not evenly spaced: x = 4/9 and 2/3, so 100 + 100 / 3 + 50 · 0.183503 = 142.5085."""
    run = write_run(tmp_path / "run", 100, 200, 250)
    words = ("average", run, "--schedule", "minus-sqrt")
    assert cli(*words, tmp_path / "out").code == 0
    printed = cli(*words, "--print-config").out
    (tmp_path / "config.yml").write_text(printed)
    assert yaml.safe_load(printed)["models"][0]["parameters"] == {"step": 100}
    merge(tmp_path / "config.yml", tmp_path / "again")
    assert value(tmp_path / "out") == pytest.approx(100 + 100 / 3 + 50 * 0.18350342, abs=1e-4)
    weights = "model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (tmp_path / "again" / weights).read_bytes()


def test_ema_takes_a_decay(tmp_path: Path, cli: Cli) -> None:
    """0.8 · 10 + 0.2 · 20 = 12."""
    run = write_run(tmp_path / "run", 10, 20)
    assert cli("average", run, tmp_path / "out", "--schedule", "ema", "--decay", "0.8").code == 0
    assert value(tmp_path / "out") == pytest.approx(12)


def test_the_plan_tells_checkpoints_and_weights_as_json_too(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "run", 10, 20, 30, tokens=7)
    shown = cli("average", run, "--plan", "--schedule", "linear").out
    assert "0.333333    10      70" in shown
    assert "3 average" not in shown
    found = json.loads(cli("average", run, "--plan", "--last", "2", "--json").out)
    assert found["checkpoints"] == [
        {"path": str(run / f"checkpoint-{step}"), "step": step, "tokens": step * 7, "weight": 0.5}
        for step in (20, 30)
    ]
    assert len(found["models"]) == 2
    lines = cli("average", run, tmp_path / "out", "--json").out.splitlines()
    assert [json.loads(line)["event"] for line in lines][:2] == ["Chosen", "PlanReady"]
    assert not (run / "out").exists()


def test_the_number_format_can_be_chosen(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "run", 1, 2)
    assert cli("average", run, tmp_path / "out", "--dtype", "bfloat16", "--quiet").code == 0
    assert {str(one.dtype) for one in read_tensors(tmp_path / "out").values()} == {"torch.bfloat16"}


def test_a_relative_folder_is_not_taken_for_a_hub_model(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "run", 1, 2)
    monkeypatch.chdir(tmp_path)
    (model, _) = yaml.safe_load(cli("average", "run", "--print-config").out)["models"]
    assert model == {"model": "./run/checkpoint-1"}
    assert cli("average", "run", "out").code == 0


def test_signs_of_references_in_the_path_mean_nothing(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "run+lora@main", 1, 3)
    assert cli("average", run, tmp_path / "out").code == 0
    assert value(tmp_path / "out") == 2


# ---- which checkpoints there are ---------------------------------------------------------------------------


def test_unfinished_checkpoints_are_left_out_with_a_warning(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "run", 1, 2, 3, 4, 5, 6)
    (run / "checkpoint-6" / "trainer_state.json").unlink()
    text = (run / "checkpoint-5" / "trainer_state.json").read_text()
    (run / "checkpoint-5" / "trainer_state.json").write_text(text[:40])
    (run / "checkpoint-4" / "model.safetensors").unlink()
    write_state(run / "checkpoint-1", 7)
    shutil.copytree(run / "checkpoint-3", run / "checkpoint-003")
    (run / "checkpoint-x").mkdir()
    (run / "tmp-checkpoint-7").mkdir()
    outcome = cli("average", run, tmp_path / "out")
    assert outcome.code == 0
    assert value(tmp_path / "out") == 2.5
    unfinished = "is left out: it is unfinished: there is no trainer_state.json, which is written last"
    for words in (
        f"checkpoint-6 {unfinished}",
        f"checkpoint-5 {unfinished}",
        "checkpoint-4 is left out: no weights are in it",
        "checkpoint-3 is left out: checkpoint-003 is of the same step",
        "checkpoint-1 is left out: its trainer_state.json says that it is of step 7",
    ):
        assert words in outcome.err
    manifest = json.loads((tmp_path / "out" / "mergecore-manifest.json").read_text())
    assert len([one for one in manifest["warnings"] if "is left out" in one]) == 5


def test_a_damaged_checkpoint_is_an_error(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "run", 1, 2, 3)
    weights = run / "checkpoint-2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    outcome = cli("average", run, tmp_path / "out")
    assert outcome.code == 3
    assert "checkpoint-2/model.safetensors" in outcome.err


def test_the_final_model_counts_where_its_step_is_known(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "run", 10, 20)
    write_llama(run, 1, 60.0)
    assert [one.step for one in read_run(run).saved] == [10, 20]
    assert "--final-step N counts it" in cli("average", run, "--plan").out
    assert cli("average", run, tmp_path / "out", "--final-step", "30").code == 0
    assert value(tmp_path / "out") == pytest.approx(30)
    write_state(run, 30)
    assert [one.step for one in read_run(run).saved] == [10, 20, 30]
    write_state(run, 30, best_model_checkpoint="run/checkpoint-10")
    assert [one.step for one in read_run(run).saved] == [10, 20]
    assert read_run(run).skipped != {}


@pytest.mark.parametrize("step", [15, 20])
def test_a_final_model_that_is_not_the_last_does_not_count(step: int, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 10, 20)
    write_llama(run, 1, 60.0)
    found = read_run(run, step)
    assert [one.step for one in found.saved] == [10, 20]
    assert found.skipped == {
        run: f"the model in the folder of the run is of step {step}, which is not the last"
    }


def test_a_final_model_that_is_the_newest_checkpoint_does_not_count_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 10, 20, max_steps=20)
    write_llama(run, 1, 20.0)
    assert [one.step for one in read_run(run).saved] == [10, 20]
    assert read_run(run).skipped == {}


def test_a_run_can_consist_of_adapters(tmp_path: Path, cli: Cli) -> None:
    """Each on its base: the mean of base + BA and base + 3 BA is base + 2 BA."""
    base = write_llama(tmp_path / "base", 1, seed=3)
    for step, size in ((1, 1.0), (2, 3.0)):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        write_queries(folder, size, str(base))
        write_state(folder, step)
    outcome = cli("average", tmp_path / "run", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    name = "model.layers.0.self_attn.q_proj.weight"
    change = read_tensors(tmp_path / "out")[name] - llama(1, seed=3)[name]
    assert change.flatten().tolist() == pytest.approx([4.0] * 16, abs=1e-6)


def test_adapters_whose_base_is_not_there_say_what_to_do(tmp_path: Path, cli: Cli) -> None:
    base = write_llama(tmp_path / "elsewhere", 1)
    for step in (1, 2):
        write_queries(tmp_path / "run" / f"checkpoint-{step}", 1.0, "./gone")
        write_state(tmp_path / "run" / f"checkpoint-{step}", step)
    outcome = cli("average", tmp_path / "run", tmp_path / "out")
    assert outcome.code == 3
    assert "./gone" in outcome.err
    assert "--base MODEL" in outcome.err
    assert cli("average", tmp_path / "run", tmp_path / "out", "--base", base).code == 0


def write_queries(folder: Path, size: float, base: str) -> None:
    """An adapter of rank 2 that adds 2 · size to each number of the queries."""
    import torch
    from safetensors.torch import save_file

    module = "base_model.model.model.layers.0.self_attn.q_proj"
    folder.mkdir(parents=True)
    save_file(
        {
            f"{module}.lora_A.weight": torch.ones(2, 4),
            f"{module}.lora_B.weight": torch.full((4, 2), size),
        },
        folder / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config))


# ---- which are chosen --------------------------------------------------------------------------------------


def test_five_are_averaged_where_nothing_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", *range(1, 8))
    assert steps(run) == [3, 4, 5, 6, 7]
    assert steps(run, every=2) == [1, 3, 5, 7]


def test_a_window_of_steps_holds_both_ends(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 100, 200, 300, 400, 500, 600, 700)
    assert steps(run, steps=(200, 400)) == [200, 300, 400]
    assert steps(run, steps=(200, None)) == [200, 300, 400, 500, 600, 700]
    assert steps(run, steps=(None, 450)) == [100, 200, 300, 400]
    assert steps(run, steps=(None, 500), last=2) == [400, 500]


def test_a_window_of_tokens_ends_at_the_newest(tmp_path: Path) -> None:
    """10 tokens a step: 150 tokens back from 500 is 350."""
    run = write_run(tmp_path / "run", 10, 20, 30, 36, 40, 50, tokens=10)
    assert steps(run, tokens=150) == [36, 40, 50]
    assert steps(run, tokens=140) == [36, 40, 50]
    assert steps(run, tokens=139) == [40, 50]


def test_a_distance_is_kept_going_back_from_the_newest(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 100, 190, 200, 250, 300, 310)
    assert steps(run, every=100, steps=(None, None), last=3) == [100, 200, 310]
    assert steps(run, every=1, last=6) == [100, 190, 200, 250, 300, 310]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"last": 4}, "--last 4: RUN has 3 such checkpoints, 10, 20, 30"),
        ({"last": 4}, "write --last 3; save_total_limit tells Trainer how many to keep"),
        ({"last": 1}, "only checkpoint-30 is chosen, and an average needs two checkpoints"),
        ({"steps": (11, 29)}, "choose a wider window; RUN has 10, 20, 30"),
        ({"steps": (11, 19)}, "RUN has no checkpoint among these steps; it has 10, 20, 30"),
        ({"steps": (11, 19)}, "choose other --steps"),
        ({"tokens": 5}, "--tokens: checkpoint-30 does not say how many tokens the run had read"),
        ({"tokens": 5}, "use --last or --steps; Trainer counts tokens with include_num_input_tokens_seen"),
    ],
)
def test_what_cannot_be_averaged_says_what_there_is(
    asked: dict[str, object], text: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", 10, 20, 30)
    with pytest.raises(MergecoreError) as caught:
        steps(run, **asked)
    assert caught.value.code == "E105"
    assert text.replace("RUN", str(run)) in str(caught.value)


def test_windows_are_written_as_people_do() -> None:
    assert parse_steps("1_000:3000") == (1000, 3000)
    assert parse_steps("1000:") == (1000, None)
    assert parse_steps(":3000") == (None, 3000)
    assert parse_tokens("2B") == 2_000_000_000
    assert [parse_tokens(text) for text in ("1.5M", "10k", "7", "0.5t")] == [1_500_000, 10_000, 7, 5 * 10**11]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--steps", "5"), "--steps '5': A:B, A: or :B is expected"),
        (("--steps", "5"), "such as 1000:3000; both are included"),
        (("--steps", "9:5"), "--steps '9:5': 9 is behind 5"),
        (("--steps", "9:5"), "write the smaller step first"),
        (("--tokens", "many"), "--tokens 'many': a number of tokens is expected"),
        (("--tokens", "many"), "such as 2B, 500M or 100000"),
        (("--plan", "--print-config"), "--plan and --print-config exclude each other"),
        (("--decay", "0.5"), "--decay has no effect with --schedule uniform; it is for ema"),
    ],
)
def test_options_that_say_nothing_are_refused(
    words: tuple[str, ...], text: str, tmp_path: Path, cli: Cli
) -> None:
    outcome = cli("average", write_run(tmp_path / "run", 1, 2), tmp_path / "out", *words)
    assert outcome.code == 2
    assert "E115" in outcome.err
    assert text in outcome.err


def test_a_command_that_writes_needs_a_folder(tmp_path: Path, cli: Cli) -> None:
    outcome = cli("average", write_run(tmp_path / "run", 1, 2))
    assert outcome.code == 2
    assert "give the folder OUT, or --plan or --print-config" in outcome.err


# ---- folders that are no runs ------------------------------------------------------------------------------


def test_a_folder_without_checkpoints_says_where_there_are_some(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "outputs" / "run", 1, 2)
    for folder, code, texts in (
        (tmp_path / "outputs", "E201", [f"there are some in {run}", "no finished checkpoints are here"]),
        (
            run / "checkpoint-2",
            "E201",
            [f"give the folder that holds it, {run}", "this is a checkpoint itself"],
        ),
        (
            tmp_path / "output",
            "E701",
            [f"did you mean '{tmp_path / 'outputs'}'", "give the output_dir of the run"],
        ),
        (run / "checkpoint-2" / "config.json", "E701", ["not a directory"]),
    ):
        outcome = cli("average", folder, tmp_path / "out")
        assert outcome.code == 3
        assert code in outcome.err
        assert all(text in outcome.err for text in texts), outcome.err


def test_a_run_of_which_nothing_is_finished_says_why(tmp_path: Path, cli: Cli) -> None:
    run = write_run(tmp_path / "run", 1)
    (run / "checkpoint-1" / "trainer_state.json").unlink()
    outcome = cli("average", run, tmp_path / "out")
    assert "(checkpoint-1: it is unfinished: there is no trainer_state.json" in outcome.err


def test_a_final_step_needs_a_final_model(tmp_path: Path, cli: Cli) -> None:
    outcome = cli("average", write_run(tmp_path / "run", 1, 2), tmp_path / "out", "--final-step", "3")
    assert outcome.code == 3
    assert "the folder of the run has checkpoints, and no model beside them" in outcome.err
    assert "leave out --final-step" in outcome.err


def test_a_run_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", 1, 2)

    def refuse(_: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(MergecoreError, match="cannot be read: Permission denied") as caught:
        read_run(run)
    assert caught.value.code == "E236"
