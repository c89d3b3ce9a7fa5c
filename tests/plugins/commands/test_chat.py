"""`mergecore chat`: models and merges in memory say what transformers makes them say."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli
from safetensors.torch import save_file
from tiny import listing, read_config, read_tensors, write_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from mergecore_plugins.commands.demo import ASSETS

TALK = ASSETS / "talk"
LINES = ("the cow says", "the capital of france is", "the owl says")
TEMPLATE = "{% for one in messages %}{{ one.content }} {% endfor %}"


def by_transformers(folder: Path, text: str, count: int) -> str:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    tokens = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        made = model.generate(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
    return str(tokenizer.decode(made[0, tokens.input_ids.shape[1] :], skip_special_tokens=True)).strip()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mean of two of the demo's models that talk."""
    monkeypatch.chdir(tmp_path)
    names = sorted(one.name for one in TALK.iterdir() if (one / "config.json").exists())
    models = "\n".join(f"  - model: {TALK / name}\n    parameters: {{weight: 0.5}}" for name in names[:2])
    (tmp_path / "mean.yml").write_text(f"merge_method: linear\nmodels:\n{models}\n")
    return tmp_path / "mean.yml"


def ask(cli: Cli, *words: str | Path) -> list[dict[str, Any]]:
    done = cli("chat", *words, "--json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_a_merge_in_memory_says_what_the_written_one_says(config: Path, cli: Cli) -> None:
    before = listing(config.parent)
    prompts = [word for line in LINES for word in ("-p", line)]
    found = ask(cli, config, *prompts, "--raw", "--max-tokens", "3")
    assert listing(config.parent) == before
    assert cli("merge", config, "out").code == 0
    assert [one["answer"] for one in found] == [
        by_transformers(config.parent / "out", line, 3) for line in LINES
    ]
    assert len({one["answer"] for one in found}) > 1


def test_several_models_answer_every_line(config: Path, cli: Cli) -> None:
    done = cli("chat", config, TALK / "base", "--raw", "-p", LINES[0], "-p", LINES[1], "--max-tokens", "2")
    lines = done.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [str(config), str(TALK / "base")] * 2
    assert lines[1].split(maxsplit=1)[1].startswith(by_transformers(TALK / "base", LINES[0], 2))


def test_a_model_with_a_template_remembers_until_it_is_reset(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(TALK / "base", tmp_path / "chats")
    (tmp_path / "chats" / "chat_template.jinja").write_text(TEMPLATE)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{LINES[0]}\n\n{LINES[1]}\n/reset\n{LINES[0]}\n"))
    found = ask(cli, tmp_path / "chats", "--max-tokens", "3")
    first = by_transformers(TALK / "base", f"{LINES[0]} ", 3)
    second = by_transformers(TALK / "base", f"{LINES[0]} {first} {LINES[1]} ", 3)
    assert [one["answer"] for one in found] == [first, second, first]


def test_answers_by_chance_are_those_of_their_seed(cli: Cli) -> None:
    words: list[str | Path] = [
        TALK / "base",
        "--raw",
        "-p",
        LINES[0],
        "--temperature",
        "3",
        "--max-tokens",
        "8",
    ]
    one, again, other = (ask(cli, *words, "--seed", seed)[0]["answer"] for seed in ("1", "1", "2"))
    assert one == again != other


def test_what_was_cut_off_or_is_nothing_is_marked(cli: Cli) -> None:
    words: list[str | Path] = [TALK / "base", "--raw", "-p", LINES[0]]
    assert cli("chat", *words, "--max-tokens", "1").out.rstrip().endswith(" [cut off: --max-tokens]")
    found = ask(cli, *words, "--max-tokens", "1")[0]
    assert (found["complete"], found["prompt"]) == (False, LINES[0])


def test_a_model_that_makes_no_text_is_refused(cli: Cli) -> None:
    done = cli("chat", ASSETS / "models" / "base", "-p", "x")
    assert done.code == 3
    assert "E224" in done.err
    assert "transformers has no class for it that makes text: ['ViTForImageClassification']" in done.err
    assert "chat with a language model" in done.err


def test_a_model_that_transformers_does_not_know_is_refused(tmp_path: Path, cli: Cli) -> None:
    write_llama(tmp_path / "new", 2, model_type="no_such_type")
    done = cli("chat", tmp_path / "new", "-p", "x")
    assert done.code == 3
    assert "transformers cannot read its config.json" in done.err


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path, cli: Cli) -> None:
    done = cli("chat", write_llama(tmp_path / "mute", 2), "-p", "x")
    assert done.code == 3
    assert "E240" in done.err
    assert (
        "it has no tokenizer that transformers can read. Hint: add the tokenizer files to the model"
        in done.err
    )


def test_a_config_that_is_wrong_is_told_as_merge_tells_it(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "wrong.yml").write_text("merge_method: no_such\nmodels: [{model: x}]\n")
    assert cli("chat", tmp_path / "wrong.yml").code == 2


def test_weights_that_are_missing_are_not_left_to_chance(tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(TALK / "base", tmp_path / "half")
    tensors = read_tensors(tmp_path / "half")
    name = next(one for one in tensors if "mlp" in one)
    save_file(
        {key: one for key, one in tensors.items() if key != name}, tmp_path / "half" / "model.safetensors"
    )
    done = cli("chat", tmp_path / "half", "-p", "x")
    assert done.code == 3
    assert f"1 weights that its class needs are missing, or have another shape: '{name}'" in done.err
    assert "complete the model" in done.err


@pytest.mark.parametrize("architectures", [["LlamaConfig"], [3], "LlamaForCausalLM", ["os"], []])
def test_classes_that_a_config_names_are_models_of_transformers(
    architectures: Any, tmp_path: Path, cli: Cli
) -> None:
    shutil.copytree(TALK / "base", tmp_path / "odd")
    config = read_config(tmp_path / "odd") | {"architectures": architectures}
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config))
    done = cli("chat", tmp_path / "odd", "-p", "x")
    assert done.code == 3, done.err
    assert "E224" in done.err


def test_the_generation_config_of_a_model_ends_its_answers(tmp_path: Path, cli: Cli) -> None:
    """A token that it says ends an answer, which the model would say first."""
    shutil.copytree(TALK / "base", tmp_path / "ends")
    tokenizer: Any = AutoTokenizer.from_pretrained(TALK / "base")
    said = tokenizer.encode(by_transformers(TALK / "base", LINES[0], 3).split()[0])
    every = list(range(len(tokenizer)))
    (tmp_path / "ends" / "generation_config.json").write_text(
        json.dumps({"eos_token_id": every, "top_p": 0.5})
    )
    found = ask(cli, tmp_path / "ends", "--raw", "-p", LINES[0], "--max-tokens", "1")[0]
    assert found["complete"]
    assert said
    assert len(ask(cli, tmp_path / "ends", "--raw", "-p", LINES[0])) == 1


def test_an_empty_prompt_is_refused(cli: Cli) -> None:
    done = cli("chat", TALK / "base", "-p", " ")
    assert (done.code, "--prompt is empty" in done.err) == (2, True)


@pytest.mark.parametrize("words", [["what is it?"], ["hello"]])
def test_what_to_ask_without_p_is_not_taken_for_a_model(config: Path, cli: Cli, words: list[str]) -> None:
    failed = cli("chat", config, *words)
    assert failed.code == 2
    assert (
        f"'{words[0]}' is not a model, and nothing of that name is here; -p '{words[0]}' asks it"
        in failed.err
    )


# ---- what a model brings with it ---------------------------------------------------------------------------


def likeliest(folder: Path, text: str, count: int, special: bool = True) -> str:
    """By a plain loop over logits."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    ids = tokenizer(text, add_special_tokens=special).input_ids
    before = len(ids)
    while len(ids) < before + count and ids[-1] != tokenizer.eos_token_id:
        with torch.inference_mode():
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
    return str(tokenizer.decode(ids[before:], skip_special_tokens=True)).strip()


def test_a_line_goes_on_where_a_tokenizer_ends_texts(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "ending"
    shutil.copytree(TALK / "base", folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    end, number = tokenizer.eos_token, tokenizer.eos_token_id
    written = json.loads((folder / "tokenizer.json").read_text())
    written["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {end: {"id": end, "ids": [number], "tokens": [end]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(written))
    assert AutoTokenizer.from_pretrained(folder)(LINES[0]).input_ids[-1] == number
    for line in LINES:
        found = ask(cli, folder, "-p", line, "--raw", "--max-tokens", "3")
        assert found[0]["answer"] == likeliest(TALK / "base", line, 3, special=False) != ""


@pytest.mark.parametrize(
    "more",
    [
        {"repetition_penalty": 5.0},
        {"min_new_tokens": 3},
        {"suppress_tokens": [*range(3, 30)]},
        {"num_beams": 4},
    ],
)
def test_the_likeliest_token_is_taken_whatever_a_model_is_set_to(
    more: dict[str, Any], tmp_path: Path, cli: Cli
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(TALK / "base", folder)
    file = folder / "generation_config.json"
    known = read_config(TALK / "base")["eos_token_id"]
    file.write_text(json.dumps({"eos_token_id": known, **more}))
    for line in LINES:
        found = ask(cli, folder, "-p", line, "--raw", "--max-tokens", "4")
        assert found[0]["answer"] == likeliest(TALK / "base", line, 4)


def test_a_full_context_ends_an_answer_and_refuses_a_line(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "short"
    shutil.copytree(TALK / "base", folder)
    config = read_config(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokens = len(tokenizer(LINES[0]).input_ids)
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": tokens + 1}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    done = cli("chat", folder, "--raw", "-p", LINES[0])
    assert (done.code, done.out.strip()) == (
        0,
        f"{likeliest(TALK / 'base', LINES[0], 1)} [cut off: its context is full]",
    )
    long = f"{LINES[0]} {LINES[0]}"
    done = cli("chat", folder, "--raw", "-p", long)
    assert done.code == 3
    count = len(tokenizer(long).input_ids)
    told = f"error E271: {folder}: what was said has {count} tokens; it takes {tokens + 1} with the answer. "
    assert f"mergecore: {told}Hint: say less, or begin anew with /reset" in " ".join(done.err.split())


def test_who_types_goes_on_after_a_full_context(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "short"
    shutil.copytree(TALK / "base", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "config.json").write_text(json.dumps({**read_config(folder), "max_position_embeddings": 8}))
    typed = iter([LINES[0], f"{LINES[0]} " * 4, "/reset", LINES[0]])

    def type_it(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("sys.stdin", Typed())
    monkeypatch.setattr("builtins.input", type_it)
    done = cli("chat", folder, "--max-tokens", "1")
    first = likeliest(TALK / "base", f"{LINES[0]} ", 1)
    assert [line.split(" [")[0] for line in done.out.splitlines()][:2] == [first, first]
    assert "E271" in done.err


class Typed(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True
