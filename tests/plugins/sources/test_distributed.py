"""Models that several processes saved in shards: read as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_checkpoints import write_dcp
from distributed_models import CUTS, NORM, copied, refused
from fixture_types import Cli
from tiny import llama, llama_config, read_config, read_tensors, write_checkpoint, write_llama
from torch import Tensor
from training_runs import write_state
from transformers import MixtralConfig, MixtralForCausalLM

from mergecore import MergecoreError, merge, run
from mergecore.types import Stored
from mergecore_plugins.sources.distributed.boxes import Box, joined


def numbers(folder: Path) -> dict[str, Tensor]:
    return run(copied(folder))


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


# ---- what is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 3])
def test_shards_of_rows_and_of_columns_come_together(ranks: int, tmp_path: Path) -> None:
    tensors = llama(1)
    tensors[NORM] = tensors[NORM].bfloat16()
    write_dcp(tmp_path / "a", tensors, CUTS, ranks=ranks)
    assert same(numbers(tmp_path / "a"), tensors)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float32"])
def test_numbers_of_every_format_come_out_as_they_are(dtype: str, tmp_path: Path) -> None:
    tensors = {name: one.to(getattr(torch, dtype)) for name, one in llama(1).items()}
    assert same(numbers(write_dcp(tmp_path / "a", tensors, CUTS)), tensors)


def test_a_large_tensor_is_read_in_blocks(tmp_path: Path) -> None:
    """More than one block of 2^18 elements, cut in both dimensions."""
    tensors = {"w": torch.randn(700, 900)}
    assert same(numbers(write_dcp(tmp_path / "a", tensors, {"w": [[123, 500], [1, 450]]})), tensors)


@pytest.mark.slow
def test_what_torch_saves_of_four_processes_is_read(tmp_path: Path) -> None:
    """Rows of four, columns of four, a mesh of two by two, and copies in all of them."""
    script = Path(__file__).with_name("save_in_shards.py")
    subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True)
    wanted = torch.load(tmp_path / "wanted.pt", weights_only=True)
    assert same(numbers(tmp_path / "saved"), wanted)


def test_any_stretch_of_a_tensor_of_boxes_is_read() -> None:
    tensor = torch.arange(4.0 * 5 * 6).view(4, 5, 6)
    parts = {}
    made = []
    for rows in ((0, 1), (1, 4)):
        for columns in ((0, 2), (2, 3), (3, 5)):
            for depth in ((0, 6),) if rows == (0, 1) else ((0, 4), (4, 6)):
                part = tensor[slice(*rows), slice(*columns), slice(*depth)].contiguous()
                stored = Stored(f"{rows}{columns}{depth}", "F32", tuple(part.shape), Path("x"), 0)
                parts[stored.name] = part.flatten()
                made.append(Box((rows[0], columns[0], depth[0]), stored))
    data = joined("w", (4, 5, 6), made[::-1], "x")

    class Memory:
        def read(self, one: Stored, start: int, into: Tensor) -> None:
            into.copy_(parts[one.name][start : start + len(into)])

    for start in range(120):
        for stop in (start + 1, start + 7, 120):
            into = torch.empty(min(stop, 120) - start)
            data.load(Memory(), start, min(stop, 120), into)  # type: ignore[arg-type]
            assert torch.equal(into, tensor.flatten()[start:stop])


# ---- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "planned"),
    [
        (("model",), True),
        ((), True),
        (("app", "model"), True),
        (("state_dict",), True),
        (("model",), False),
        ((), False),
    ],
)
def test_names_are_those_of_the_model(path: tuple[str, ...], planned: bool, tmp_path: Path) -> None:
    """Also where nothing says which keys lead to them."""
    tensors = llama(1)
    assert same(numbers(write_dcp(tmp_path / "a", tensors, path=path, planned=planned)), tensors)


def test_what_training_puts_into_names_is_taken_out(tmp_path: Path) -> None:
    tensors = llama(1)
    names = {
        name: f"module._orig_mod.{name}".replace("self_attn", "_checkpoint_wrapped_module.self_attn")
        for name in tensors
    }
    written = {names[name]: one for name, one in tensors.items()}
    assert same(numbers(write_dcp(tmp_path / "a", written)), tensors)


def test_the_state_of_the_optimizer_is_left_alone(tmp_path: Path) -> None:
    more = {f"optim.state.{number}": torch.ones(3) for number in range(3)}
    folder = write_dcp(tmp_path / "a", llama(1), ranks=2, more=more)
    assert same(numbers(folder), llama(1))


@pytest.mark.parametrize(
    ("path", "more", "text"),
    [
        (("optim", "state"), {}, "E201 a/.metadata: the checkpoint has no model, but 'optim.state'"),
        (("optim", "state"), {}, "give the checkpoint of the model"),
        (
            ("a", "model"),
            {"b.model.w": torch.ones(1)},
            "several models are in the checkpoint: 'a.model', 'b.model'",
        ),
        (("a", "model"), {"b.model.w": torch.ones(1)}, "E214"),
        (("a", "model"), {"b.model.w": torch.ones(1)}, "save the one that is meant by itself"),
    ],
)
def test_it_must_be_clear_what_the_model_is(
    path: tuple[str, ...], more: dict[str, Tensor], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dcp(tmp_path / "a", llama(1), path=path, more=more)
    (found,) = refused(Path("./a"))
    assert text in found.replace("./a/", "a/")


def test_a_checkpoint_without_tensors_is_refused(tmp_path: Path) -> None:
    (found,) = refused(write_dcp(tmp_path / "a", {}))
    assert found.startswith("E201")
    assert "no tensors are in the checkpoint" in found


def test_two_tensors_cannot_have_one_name(tmp_path: Path) -> None:
    tensors = {"w": torch.ones(2), "_orig_mod.w": torch.ones(2)}
    (found,) = refused(write_dcp(tmp_path / "a", tensors))
    assert found.startswith("E213")
    assert "tensor 'w' is there twice" in found
    assert "save the model without wrappers" in found


# ---- config and runs ---------------------------------------------------------------------------------------


def write_fsdp(run_folder: Path, step: int) -> Path:
    """A checkpoint as Trainer leaves one with FSDP and sharded states: no config in it; the folder."""
    folder = run_folder / f"checkpoint-{step}"
    write_dcp(folder / "pytorch_model_fsdp_0", llama(1, float(step)), CUTS)
    write_dcp(folder / "optimizer_0", {"w": torch.ones(3)}, path=("optimizer",))
    write_state(folder, step)
    return folder


def test_config_and_tokenizer_may_lie_in_the_folder_of_the_run(tmp_path: Path) -> None:
    folder = write_fsdp(tmp_path / "run", 5)
    (tmp_path / "run" / "config.json").write_text(json.dumps(llama_config(1)))
    (tmp_path / "run" / "chat_template.jinja").write_text("x")
    for place in (folder, folder / "pytorch_model_fsdp_0"):
        out = tmp_path / f"out-{place.name}"
        merge({"merge_method": "passthrough", "models": [{"model": str(place)}]}, out)
        assert read_config(out)["model_type"] == "llama"
        assert (out / "chat_template.jinja").is_file()
        assert same(read_tensors(out), llama(1, 5.0))


def test_weights_and_config_must_agree(tmp_path: Path) -> None:
    folder = write_dcp(tmp_path / "a", llama(1))
    (folder / "config.json").write_text(json.dumps(llama_config(3)))
    (found,) = refused(folder)
    assert found.startswith("E221")
    assert "num_hidden_layers 3, but the weights have 1 layer" in found


def test_checkpoints_of_fsdp_are_averaged(tmp_path: Path, cli: Cli) -> None:
    """(2 + 4 + 9) / 3 = 5; the bytes are those of the same checkpoints as safetensors."""
    for step in (2, 4, 9):
        write_fsdp(tmp_path / "run", step)
        write_llama(tmp_path / "plain" / f"checkpoint-{step}", 1, float(step))
        write_state(tmp_path / "plain" / f"checkpoint-{step}", step)
    refused = cli("average", tmp_path / "run", tmp_path / "out")
    assert refused.code == 3
    assert "E220" in refused.err
    assert "or in the folder of its run" in refused.err
    assert "such as that from which the run began: --config MODEL" in refused.err
    base = write_checkpoint(tmp_path / "base", llama(1), llama_config(1))
    done = cli("average", tmp_path / "run", tmp_path / "out", "--config", base)
    assert done.code == 0, done.err
    assert cli("average", tmp_path / "plain", tmp_path / "out2").code == 0
    assert same(read_tensors(tmp_path / "out"), read_tensors(tmp_path / "out2"))
    assert read_tensors(tmp_path / "out")[NORM].tolist() == pytest.approx([5] * 4)
    assert cli("verify", tmp_path / "out").code == 0


def test_shards_of_a_mixture_are_brought_into_the_keys_of_the_hub(tmp_path: Path, cli: Cli) -> None:
    """In memory the experts of a layer are one tensor; on disk each is its own, and so it is in the output."""
    sizes: dict[str, Any] = {
        "hidden_size": 4,
        "intermediate_size": 6,
        "vocab_size": 8,
        "num_local_experts": 3,
    }
    heads: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = MixtralConfig(**sizes, **heads)
    for step in (1, 2):
        torch.manual_seed(step)
        model = MixtralForCausalLM(config)
        model.save_pretrained(tmp_path / "plain" / f"checkpoint-{step}")
        tensors = {name: one.detach() for name, one in model.state_dict().items()}
        cuts = {name: [[1]] for name in tensors}
        write_dcp(tmp_path / "run" / f"checkpoint-{step}" / "pytorch_model_fsdp_0", tensors, cuts)
        for run_folder in ("plain", "run"):
            write_state(tmp_path / run_folder / f"checkpoint-{step}", step)
    hub = tmp_path / "plain" / "checkpoint-1"
    done = cli("average", tmp_path / "run", tmp_path / "out", "--config", hub)
    assert done.code == 0, done.err
    assert cli("average", tmp_path / "plain", tmp_path / "out2").code == 0
    assert same(read_tensors(tmp_path / "out"), read_tensors(tmp_path / "out2"))
    assert read_tensors(tmp_path / "out").keys() == read_tensors(hub).keys()


def test_a_checkpoint_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    folder = write_dcp(tmp_path / "a", llama(1), CUTS)
    made = copied(folder)
    file = folder / "__0_0.distcp"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    os.utime(file, ns=(1, 1))
    with pytest.raises(MergecoreError, match="changed"):
        run(made)


def test_safetensors_beside_the_shards_are_taken(tmp_path: Path) -> None:
    folder = write_fsdp(tmp_path / "run", 5)
    write_llama(folder, 1, 7.0)
    assert same(numbers(folder), llama(1, 7.0))


def test_deepspeed_is_told_which_command_converts_it(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "run" / "checkpoint-5"
    (folder / "global_step5").mkdir(parents=True)
    (folder / "global_step5" / "zero_pp_rank_0_mp_rank_00_model_states.pt").write_bytes(b"x")
    (folder / "zero_to_fp32.py").write_text("")
    (found,) = refused(folder)
    assert found.startswith("E303")
    assert "the weights are shards of DeepSpeed ZeRO: pickles, which can run code" in found
    assert f"python {folder}/zero_to_fp32.py {folder} {folder} --safe_serialization" in found
    assert "convert them with the script that DeepSpeed left there" in found
