"""Chat templates: which one is chosen, what the built-in ones say, and which files hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from refusals import refused
from tiny import registry
from tiny_tokenizers import tokenizer_json, write_model

from mergecore import merge, plan
from mergecore.config.chosen import check_template
from mergecore.errors import ConfigError, InputError
from mergecore.planning.side_files.collect import named_template
from mergecore.tokenizers.chat_template import (
    chosen_template,
    own_template,
    with_template,
)
from mergecore.types import Checkpoint, Json, ModelReference
from mergecore_plugins.side_files.chat_templates import NAMES

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]

MARKS = {"bos_token": "<s>", "eos_token": "</s>"}


def model(folder: Path, **files: Any) -> Checkpoint:
    """A model with these files, text or JSON; '__' in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    sides = {}
    for key, content in files.items():
        name = key.replace("__", ".")
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        sides[name] = folder / name
    return Checkpoint(ModelReference(folder.name), folder, {}, (), {}, sides)


def named(name: str) -> Path | bytes:
    """The file of a chat template, as a merge finds it."""
    return named_template(name, registry())


def rendered(name: str, messages: list[dict[str, str]], prompt: bool = False) -> str:
    """What the template makes of messages, in an environment like that of transformers."""
    text = chosen_template(name, [], named)
    assert text is not None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def fail(text: str) -> None:
        raise ValueError(text)

    environment.globals["raise_exception"] = fail
    return environment.from_string(text).render(messages=messages, add_generation_prompt=prompt, **MARKS)


def test_chatml_marks_both_ends_of_a_message() -> None:
    assert rendered("chatml", TALK[:2], prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_llama3_puts_a_header_before_a_message_and_trims_it() -> None:
    padded = [{"role": "user", "content": " Hi \n"}]
    assert rendered("llama3", padded, prompt=True) == (
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_mistral_puts_the_system_text_into_the_first_turn() -> None:
    assert rendered("mistral", TALK) == "<s> [INST] Be brief.\n\nHi [/INST] Hello</s> [INST] Bye [/INST]"
    assert rendered("mistral", TALK[1:3]) == "<s> [INST] Hi [/INST] Hello</s>"


def test_mistral_insists_on_turns() -> None:
    with pytest.raises(ValueError, match="user and assistant take turns"):
        rendered("mistral", [TALK[1], TALK[1]])


def test_alpaca_has_sections_below_headings() -> None:
    context = [*TALK[:2], {"role": "user_context", "content": "Rain"}]
    assert rendered("alpaca", context, prompt=True) == (
        "Be brief.\n\n### Instruction:\nHi\n\n### Input:\nRain\n\n### Response:\n"
    )


def test_exaone_always_has_a_system_turn() -> None:
    assert rendered("exaone", TALK[1:3], prompt=True) == (
        "[|system|][|endofturn|]\n[|user|]Hi\n[|assistant|]Hello[|endofturn|]\n[|assistant|]"
    )
    assert rendered("exaone", TALK[:1]) == "[|system|]Be brief.[|endofturn|]\n"


def test_a_jinja_text_of_any_length_is_taken_as_it_is() -> None:
    for text in ("{{ x }}", "{% for m in messages %}" + "é" * 5000 + "{% endfor %}"):
        assert chosen_template(text, [], named) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chat_ml", r"'chat_ml' is not a known chat template; did you mean 'chatml'\?"),
        ("../x", r"'\.\./x' is not a known chat template\. Hint: write auto, one of alpaca, chatml"),
        ("no braces at all " * 9, r"'no braces at all.*…' is not a known chat template"),
    ],
)
def test_an_unknown_name_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        check_template(name, registry())
    assert caught.value.code == "E105"


def test_an_unknown_name_is_told_beside_the_rest_of_the_config_and_its_models() -> None:
    config: dict[str, Json] = {
        "merge_method": "linear",
        "models": [{"model": "./nowhere", "parameters": {"weight": "x"}}],
        "chat_template": "chat_ml",
    }
    assert sorted(error.split()[0] for error in refused(config)) == ["E104", "E105", "E701"]


def test_auto_takes_the_most_frequent_and_of_several_the_first(tmp_path: Path) -> None:
    made = {
        name: model(tmp_path / name, chat_template__jinja=text)
        for name, text in (("a", b"A"), ("b", b"B\n"), ("c", b" B"))
    }
    none = model(tmp_path / "none")
    assert chosen_template("auto", [none, *made.values()], named) == "B\n"
    assert chosen_template("auto", [none, made["a"], made["b"]], named) == "A"
    assert chosen_template("auto", [none], named) is None


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": "{{ a }}"},
        {"chat_template": [{"name": "tool", "template": "x"}, {"name": "default", "template": "{{ a }}"}]},
        {"chat_template": {"tool": "x", "default": "{{ a }}"}},
    ],
)
def test_a_template_may_be_in_the_config_in_three_forms(tmp_path: Path, config: Any) -> None:
    assert own_template(model(tmp_path / "m", tokenizer_config__json=config)) == "{{ a }}"
    assert own_template(model(tmp_path / "n", chat_template__json=config)) == "{{ a }}"


def test_the_file_goes_before_the_config(tmp_path: Path) -> None:
    one = model(
        tmp_path / "m", chat_template__jinja=b"{{ b }}", tokenizer_config__json={"chat_template": "{{ a }}"}
    )
    assert own_template(one) == "{{ b }}"


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"chat_template__jinja": b"\xff"}, r"m/chat_template\.jinja: not UTF-8 at byte 0"),
        ({"tokenizer_config__json": b"{"}, r"m/tokenizer_config\.json: not valid JSON"),
        ({"tokenizer_config__json": b"[]"}, r"m/tokenizer_config\.json: must be a JSON object"),
    ],
)
def test_a_template_that_cannot_be_read_is_refused(tmp_path: Path, files: Any, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        own_template(model(tmp_path / "m", **files))
    assert caught.value.code == "E240"


def test_a_template_is_written_where_old_and_new_readers_look_and_nowhere_else(tmp_path: Path) -> None:
    one = model(
        tmp_path / "m",
        tokenizer__json={},
        tokenizer_config__json={"a": 1, "chat_template": "old"},
        chat_template__json={"chat_template": "older"},
        chat_template__jinja=b"old",
    )
    files: dict[str, Path | bytes] = {**one.side_files, "additional_chat_templates/tool.jinja": b"old"}
    made = with_template(files, "{{ é }}")
    assert sorted(made) == ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]
    assert made["chat_template.jinja"] == "{{ é }}".encode()
    written = made["tokenizer_config.json"]
    assert isinstance(written, bytes)
    assert json.loads(written) == {"a": 1, "chat_template": "{{ é }}"}


def test_files_that_hold_the_template_stay_as_they_are(tmp_path: Path) -> None:
    one = model(tmp_path / "m", tokenizer_config__json={"chat_template": " {{ a }}"})
    assert with_template(one.side_files, "{{ a }}\n") == dict(one.side_files)


# ---- in a merge --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models with one tokenizer, and templates of their own."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write_model(tmp_path / name, tokenizer_json("BPE"), 18, config={"chat_template": f"{{{{ {name} }}}}"})
    return tmp_path


def merged(folder: Path, **config: Any) -> Path:
    made = {"merge_method": "linear", "models": _models("a", "b"), **config}
    return merge(made, folder / "out", registry=registry())


def _models(*names: str) -> list[dict[str, Any]]:
    return [{"model": name, "parameters": {"weight": 1}} for name in names]


def test_a_merge_without_a_template_keeps_that_of_the_donor(folder: Path) -> None:
    out = merged(folder)
    assert not (out / "chat_template.jinja").exists()
    assert (out / "tokenizer_config.json").read_bytes() == (folder / "a/tokenizer_config.json").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_merge_writes_the_template_it_is_told(folder: Path, name: str) -> None:
    out = merged(folder, chat_template=name)
    text = (out / "chat_template.jinja").read_text()
    assert text == chosen_template(name, [], named)
    assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"] == text
    assert (out / "tokenizer.json").read_bytes() == (folder / "a/tokenizer.json").read_bytes()


def test_a_merge_of_models_without_tokenizers_warns_of_the_template(tmp_path: Path) -> None:
    for name in "ab":
        write_model(tmp_path / name, None, 18)
    models = _models(str(tmp_path / "a"), str(tmp_path / "b"))
    config: dict[str, Any] = {"merge_method": "linear", "models": models}
    made = plan({**config, "chat_template": "chatml"}, registry=registry())
    assert "the output has a chat template, but no tokenizer" in made.warnings
    assert (
        "no model has a chat template"
        in plan({**config, "chat_template": "auto"}, registry=registry()).warnings
    )
