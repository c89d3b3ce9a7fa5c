"""Side files tell nothing of the machine they lay on, and name no code that a loader would fetch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from workshop import Workshop

from mergecore.planning.side_files.cleaning import cleaned


def clean(name: str = "config.json", beside: tuple[str, ...] = (), **value: Any) -> tuple[Any, str]:
    """What is left of a file, and what is told."""
    files: dict[str, Path | bytes] = dict.fromkeys(beside, b"")
    if name != "config.json":
        files[name] = json.dumps(value).encode()
    made, told = cleaned(files, value if name == "config.json" else {})
    content = made[name]
    assert isinstance(content, bytes)
    return json.loads(content), "; ".join(told)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ({"auto_map": {"AutoModel": "evil/repo--m.Evil"}, "a": 1}, {"a": 1}),
        ({"text_config": {"auto_map": {"AutoModel": "evil/repo--m.Evil"}}}, {"text_config": {}}),
        ({"auto_map": {"AutoTokenizer": ["evil.T", None]}}, {}),
        ({"a": [{"_attn_implementation_internal": "evil/kernel"}]}, {"a": [{}]}),
        ({"vision_config": {"_attn_implementation": "evil/kernel"}}, {"vision_config": {}}),
        ({"attn_implementation": {"text_config": "evil/kernel"}}, {}),
        ({"x": {"experts_implementation": "evil/kernel"}}, {"x": {}}),
        ({"custom_pipelines": {"t": {"impl": "evil/repo--p.P", "pt": ["AutoModel"]}}}, {}),
        ({"custom_generate": "evil/repo"}, {}),
        ({"trust_remote_code": "evil"}, {}),
        ({"a": {"b": {"use_kernels": "evil"}}}, {"a": {"b": {}}}),
    ],
)
def test_keys_that_fetch_code_are_left_out_at_any_depth(value: dict[str, Any], left: dict[str, Any]) -> None:
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
    ):
        made, told = clean(name, **value)
        assert made == left
        assert told.startswith("left out of the output, since loaders may fetch other people's code for it: ")
        assert f" in {name}" in told


def test_implementations_that_every_loader_has_are_left_out_without_a_word() -> None:
    assert clean(_attn_implementation_autoset=True, attn_implementation="sdpa", a=1) == ({"a": 1}, "")


def test_code_that_lies_beside_is_named_as_before() -> None:
    value: dict[str, Any] = {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "other/repo--own.Model"}}
    made, told = clean(beside=("own.py",), **value)
    assert made == {"auto_map": {"AutoConfig": "own.Config"}}
    assert "auto_map in config.json" in told


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ({"name_or_path": "/home/me/m", "a": 1}, {"a": 1}),
        ({"tokenizer_file": "/home/me/.cache/huggingface/x.json"}, {}),
        ({"name_or_path": "../me/m"}, {}),
        ({"name_or_path": "runs/me/m"}, {}),
        ({"_name_or_path": "owner/name"}, {"_name_or_path": "owner/name"}),
        ({"parts": [{"_name_or_path": "~/m"}]}, {"parts": [{}]}),
        ({"data": ["/home/me/set.jsonl", "C:\\Users\\me\\b"]}, {"data": ["set.jsonl", "b"]}),
        (
            {"chat_template": "{% if a %}\n/home/x{% endif %}"},
            {"chat_template": "{% if a %}\n/home/x{% endif %}"},
        ),
    ],
)
def test_paths_of_a_machine_are_left_out(value: dict[str, Any], left: dict[str, Any]) -> None:
    assert clean("tokenizer_config.json", **value) == (left, "")


def test_what_is_clean_or_no_json_stays_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a" :1}')
    files: dict[str, Path | bytes] = {
        "a.json": tmp_path / "a.json",
        "b.json": b"{",
        "vocab.json": b'{"/a/b": 1}',
    }
    assert cleaned(files, {}) == (files, [])


def test_nothing_of_a_merged_model_tells_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "secretive"
    (home / "work").mkdir(parents=True)
    monkeypatch.chdir(home / "work")
    shop = Workshop(home / "elsewhere")
    for name in "ab":
        folder = shop.model(
            name, config={"parts": [{"_name_or_path": f"{home}/old"}], "prefix": "/home/me/secretive/x"}
        )
        (folder / "generation_config.json").write_text(json.dumps({"assistant_path": f"{home}/x"}))
    config = shop.config(name=f"{home}/model")
    config["models"][0]["model"] = "../elsewhere/a"
    config["models"][1]["model"] = str(home / "elsewhere" / "b")
    config["base_model"] = "../elsewhere/a"
    out = shop.merge({**config, "chat_template": "{# from /home/me/secretive/t.jinja #}"})
    for file in out.iterdir():
        if file.name not in (
            "chat_template.jinja",
            "tokenizer_config.json",
        ):  # the template is what was asked for
            assert b"secretive" not in file.read_bytes(), file.name
            assert b"elsewhere" not in file.read_bytes(), file.name
