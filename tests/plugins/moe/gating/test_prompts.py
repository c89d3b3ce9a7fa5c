"""What can be wrong with prompts and bases is said before a weight is read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_gates
import torch
import transformers
from gate_passes import layers_of, planned

import mergecore
from mergecore import Document
from mergecore.errors import MergecoreError, Problems
from mergecore_plugins.moe.gating import GateKeys, PromptKeys, gate_step, prompts
from mergecore_plugins.moe.gating.settings import PromptFile

CATS, CODE = {"positive_prompts": ["the cat sat"]}, {"positive_prompts": ["if x is y"]}


def refused(model: Path, **document: Any) -> MergecoreError:
    with pytest.raises(MergecoreError) as caught:
        planned(model, {"gate_mode": "hidden", "experts": [CATS, CODE], **document})
    return caught.value


def told(model: Path, **document: Any) -> tuple[str, str, str, str | None]:
    """Code, place, message and hint."""
    error = refused(model, **document)
    return error.code, str(error.place), error.what, error.hint


# ---- prompts -----------------------------------------------------------------------------------------------


def test_an_expert_without_prompts_is_named(base: Path) -> None:
    wanted = (
        "E105",
        "experts.1",
        "experts.1 has no positive_prompts, by which tokens for it could be told",
        "write some, or choose a gate_mode that looks at no prompt: random, uniform_random",
    )
    assert told(base, experts=[CATS, {"negative_prompts": ["x"]}]) == wanted
    assert told(base, experts=[CATS, {"positive_prompts": []}]) == wanted


def test_an_empty_prompt_is_named(base: Path) -> None:
    assert told(base, experts=[CATS, {"positive_prompts": ["x", " \n"]}]) == (
        "E105",
        "experts.1.positive_prompts",
        "prompt 2 is empty",
        "write a text, or take it out",
    )


def test_a_prompt_that_is_longer_than_the_model_takes_is_named(base: Path) -> None:
    long = {
        "positive_prompts": ["x", "cat " * 32],
        "negative_prompts": ["cat " * 31],
    }  # and what begins a text
    assert told(base, experts=[CATS, long]) == (
        "E105",
        "experts.1.positive_prompts.1",
        "prompt 2 has 33 tokens; the model takes 32 at once",
        "make it shorter, or two of it",
    )


def test_a_prompt_of_which_no_token_is_left_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts.Cutter, "ids", lambda self, text: [0] if text == "?" else [0, 5])
    assert told(base, experts=[CATS, {"positive_prompts": ["?"]}]) == (
        "E105",
        "experts.1.positive_prompts.0",
        "prompt 1 has no token: the tokenizer makes nothing of it",
        "write other words",
    )


def test_a_tokenizer_of_another_model_is_noticed(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "other")
    words = (*tiny_gates.WORDS, *(f"more{number}" for number in range(9)))
    tiny_gates.write_tokenizer(tmp_path / "other", words)
    assert told(tmp_path / "other", experts=[CATS, {"positive_prompts": ["more8"]}]) == (
        "E105",
        "experts.1.positive_prompts.0",
        "prompt 1 has the token 29; the model has 24 rows of embeddings",
        "the tokenizer belongs to another model",
    )


def test_all_that_is_wrong_is_told_at_once(base: Path) -> None:
    error = refused(base, experts=[{"positive_prompts": [""]}, {}, {"positive_prompts": ["cat " * 40]}])
    assert isinstance(error, Problems)
    assert [one.what.split(" has ")[0] for one in error.errors] == [
        "prompt 1 is empty",
        "experts.1",
        "prompt 1",
    ]


def test_places_are_those_of_the_document(base: Path) -> None:
    text = "base_model: x\nexperts:\n- positive_prompts: [cat]\n- positive_prompts:\n  - x\n  - ''\n"
    [error] = _errors(base, parse(text))
    assert str(error.place) == "moe.yml:5:3"


def _errors(model: Path, document: Document) -> list[MergecoreError]:
    planner = mergecore.planner()
    experts = [PromptKeys.model_validate(one) for one in document.data["experts"]]  # type: ignore[union-attr]
    with pytest.raises(MergecoreError) as caught:
        gate_step(document, planner, GateKeys(), planner.open(str(model)), [], experts)
    return [*caught.value.errors] if isinstance(caught.value, Problems) else [caught.value]


def parse(text: str) -> Document:
    from mergecore.files.yaml_document import parse_document

    return parse_document(text, "moe.yml")


def test_experts_with_the_same_prompts_are_told(base: Path) -> None:
    _, made = planned(base, {"gate_mode": "hidden", "experts": [CATS, CODE, CATS]})
    assert made.warnings == (
        "experts.0 and experts.2 have the same prompts, so no router can tell them apart",
    )


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [("aab", "aba", True), ("aab", "abb", False), ("ab", "aab", False), ("ab", "ba", True)],
)
def test_prompts_that_are_written_more_often_count_more_often(
    base: Path, first: str, second: str, same: bool
) -> None:
    """The mean of [a, a, b] is not that of [a, b, b]."""
    words = {"a": "the cat sat", "b": "def f(x): return x"}
    experts = [{"positive_prompts": [words[one] for one in each]} for each in (first, second)]
    _, made = planned(base, {"gate_mode": "hidden", "experts": experts})
    assert bool(made.warnings) == same


def test_a_prompt_that_is_for_and_against_an_expert_is_told(base: Path) -> None:
    both = {**CATS, "negative_prompts": [CATS["positive_prompts"][0], "def x"]}
    _, made = planned(base, {"gate_mode": "hidden", "experts": [both, CODE]})
    text = CATS["positive_prompts"][0]
    told = f"experts.0: '{text}' is among its positive prompts and, against these, its negative ones"
    assert made.warnings == (told,)


def test_what_has_no_effect_is_told(base: Path) -> None:
    _, made = planned(base, {"gate_mode": "router_input", "gate_center": True, "experts": [CATS, CODE]})
    assert made.warnings == ("gate_center has no effect on router_input, which compares experts as it is",)


def test_a_share_that_cannot_be_is_refused(base: Path) -> None:
    assert told(base, top1_share=0.5) == (
        "E105",
        "top1_share",
        "top1_share 0.5: the first of 2 choices gets more than 1/2",
        "write a share between that and 1, such as 0.9",
    )
    planned(base, {"gate_mode": "hidden", "experts": [CATS, CODE, CATS], "top1_share": 0.34})


# ---- files of prompts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prompts.txt", "the cat sat\n\n  the dog ran  \n"),
        ("bom.txt", "\ufeffthe cat sat\nthe dog ran"),
        ("prompts.json", '["the cat sat", "the dog ran"]'),
        ("prompts.jsonl", '"the cat sat"\n{"text": "the dog ran", "id": 3}\n'),
    ],
)
def test_prompts_are_read_from_a_file(name: str, content: str, base: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf8")
    found = layers_of(
        base, gate_mode="hidden", experts=[{"positive_prompts": {"file": str(tmp_path / name)}}, CODE]
    )
    wanted = layers_of(
        base, gate_mode="hidden", experts=[{"positive_prompts": ["the cat sat", "the dog ran"]}, CODE]
    )
    assert all(torch.equal(a.rows, b.rows) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("name", "content", "what", "hint"),
    [
        ("none.txt", None, ": missing", "relative paths begin in the folder"),
        ("none/x.txt", None, ": missing", "relative paths begin in the folder"),
        ("empty.txt", b" \n", " holds none", "write one prompt in each line"),
        ("latin.txt", b"caf\xe9", " is not UTF-8 at byte 3", "save it as UTF-8"),
        ("large.txt", b"x" * 101, ": the file has 101 bytes", "a few hundred prompts are enough"),
    ],
)
def test_a_file_that_holds_no_prompts_is_named(
    name: str,
    content: bytes | None,
    what: str,
    hint: str,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompts, "MOST_BYTES", 100)
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    error = refused(base, experts=[{"positive_prompts": {"file": name}}, CODE])
    assert error.code == "E105"
    assert error.what.startswith(f"the file of prompts '{name}'{what}")
    assert str(error.place) == "experts.0.positive_prompts"
    assert error.hint is not None
    assert error.hint.startswith(hint)


def test_a_line_of_prompts_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    lines, texts = tmp_path / "lines.jsonl", tmp_path / "lines.txt"
    lines.write_bytes('{"text": "the\u2028cat"}\r\n"the\x85dog"\n'.encode())
    texts.write_bytes("the\u2028cat\r\nthe\x85dog\n".encode())
    for file in (lines, texts):
        found = prompts.texts_of(PromptFile(file=str(file)), None)
        assert found == ("the\u2028cat", "the\x85dog"), file


def test_a_pipe_is_not_a_file_of_prompts(base: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    kinds = {str(tmp_path / "pipe"): "fifo", "/dev/zero": "character device", str(tmp_path): "directory"}
    for name, kind in kinds.items():
        error = refused(base, experts=[{"positive_prompts": {"file": name}}, CODE])
        assert error.what == f"the file of prompts '{name}': not a regular file ({kind})"
        assert (error.code, error.hint) == ("E105", "write the prompts to a text file first")


@pytest.mark.parametrize("name", ["a\0b", "~nobody-of-this-name/prompts.txt"])
def test_a_path_that_no_file_can_have_is_named(name: str, base: Path) -> None:
    error = refused(base, experts=[{"positive_prompts": {"file": name}}, CODE])
    assert (error.code, error.what) == ("E105", f"no file can be called {name!r}")
    assert error.hint == "write the path of a text file"


@pytest.mark.parametrize("content", ['{"a": 1}', "[1]", '["x", {"text": 3}]', "[", '"text"'])
def test_a_file_of_json_that_holds_something_else_is_named(content: str, base: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text(content)
    error = refused(base, experts=[{"positive_prompts": {"file": str(tmp_path / "prompts.json")}}, CODE])
    assert error.code == "E105"
    if content != "[":
        assert str(error.place).endswith("prompts.json")
        assert error.what == "a list of texts is expected"
        assert error.hint == 'a .json holds ["…", …]; a .jsonl has "…" or {"text": "…"} in each line'


# ---- the base ----------------------------------------------------------------------------------------------


def test_a_base_without_a_tokenizer_is_refused(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "mute", ignore=shutil.ignore_patterns("tokenizer*"))
    assert told(tmp_path / "mute")[0::2] == ("E240", "it has no tokenizer to cut the prompts with")
    assert refused(tmp_path / "mute").hint == (
        "put its tokenizer files there, or choose a gate_mode that looks at no prompt: random, uniform_random"
    )


def test_a_tokenizer_that_transformers_cannot_load_is_told(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise ValueError("no such\nthing")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    error = refused(base)
    assert (error.code, error.what) == (
        "E240",
        "transformers cannot load its tokenizer, which cuts the prompts: no such thing",
    )
    assert error.hint == (
        "put a tokenizer.json there, or use a gate_mode that looks at no prompt, such as random"
    )


def test_a_base_without_a_chat_template_cannot_be_asked_for_one(base: Path) -> None:
    error = refused(base, chat_prompts=True)
    assert (error.code, error.what) == ("E240", "it has no chat template, and 'chat_prompts' asks for one")
    assert error.hint == "leave 'chat_prompts' out"


def test_a_chat_template_that_fails_is_told(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "chat")
    tiny_gates.write_tokenizer(tmp_path / "chat", template="{{ raise_exception('system first') }}")
    error = refused(tmp_path / "chat", chat_prompts=True)
    assert (error.code, error.what) == ("E240", "its chat template fails on a prompt: system first")


def test_a_base_that_transformers_cannot_run_is_refused_with_the_rest(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "odd")
    config = json.loads((base / "config.json").read_text())
    odd = {**config, "model_type": "odd", "architectures": ["Odd"], "auto_map": {"AutoModel": "odd.Odd"}}
    (tmp_path / "odd" / "config.json").write_text(json.dumps(odd))
    error = refused(tmp_path / "odd", experts=[CATS, {}])
    assert isinstance(error, Problems)
    assert {one.code for one in error.errors} >= {"E224", "E105"}


def test_a_base_without_feed_forward_blocks_has_no_place_for_routers(tmp_path: Path) -> None:
    model = transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=24, hidden_size=16, num_hidden_layers=2, state_size=4)
    )
    model.save_pretrained(tmp_path)
    tiny_gates.write_tokenizer(tmp_path)
    error = refused(tmp_path, gate_mode="router_input")
    assert (error.code, error.what) == (
        "E224",
        "no feed-forward block is known in 'backbone.layers.0', before which a router would stand",
    )
    assert error.hint == "choose the gate_mode hidden, without top1_share"
    planned(tmp_path, {"gate_mode": "hidden", "experts": [CATS, CODE]})


def test_the_mode_is_checked_by_the_schema() -> None:
    with pytest.raises(ValueError, match="'hidden', 'hidden_avg'"):
        GateKeys.model_validate({"gate_mode": "hiden"})
    with pytest.raises(ValueError, match="less than 1"):
        GateKeys.model_validate({"top1_share": 1})
