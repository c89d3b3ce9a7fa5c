"""Models that several processes saved in shards: read as they are, refused where they could do harm."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_checkpoints import write_dcp
from fixture_types import Cli
from tiny import llama, llama_config, read_config, read_tensors, write_checkpoint, write_llama
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata
from training_runs import write_state

from mergecore import MergecoreError, Plan, merge, plan, run
from mergecore.errors import Problems
from mergecore.types import Stored
from mergecore_plugins.sources.distributed.boxes import Box, joined

HEAD, NORM, QUERY = "lm_head.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"
CUTS = {HEAD: [[3, 5]], QUERY: [[1, 3], [2]], "model.layers.0.mlp.up_proj.weight": [[], [1, 2]]}


def copied(folder: Path) -> Plan:
    return plan({"merge_method": "passthrough", "models": [{"model": str(folder)}]})


def numbers(folder: Path) -> dict[str, Tensor]:
    return run(copied(folder))


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def refused(folder: Path) -> list[str]:
    with pytest.raises(MergecoreError) as caught:
        copied(folder)
    errors = caught.value.errors if isinstance(caught.value, Problems) else [caught.value]
    return [f"{one.code} {one}" for one in errors]


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
    assert "num_hidden_layers 3, but the weights have 1 layers" in found


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


# ---- what is refused ---------------------------------------------------------------------------------------


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, called: Callable[..., Any], *given: Any) -> None:
        self._made = (called, given)

    def __reduce__(self) -> Any:
        return self._made


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Runs(os.system, "touch HIT"), "posix.system"),
        (Runs(eval, "open('HIT', 'w')"), ".eval'"),
        (Metadata({"a": Runs(os.system, "touch HIT")}), "posix.system"),  # type: ignore[dict-item]
        (Metadata({}, planner_data=Runs(exec, "open('HIT', 'w')")), ".exec'"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_a_list_that_asks_for_more_is_refused_and_not_run(
    value: object, named: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_dcp(tmp_path / "a", llama(1))
    (folder / ".metadata").write_bytes(pickle.dumps(value, protocol))
    (found,) = refused(folder)
    assert found.startswith("E304")
    assert named in found
    assert not (tmp_path / "HIT").exists()


def changed(folder: Path, change: Callable[[Metadata], object]) -> list[str]:
    """What is said of a checkpoint whose list was changed."""
    write_dcp(folder, llama(1), CUTS)
    metadata: Metadata = pickle.loads((folder / ".metadata").read_bytes())  # noqa: S301
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return refused(folder)


def chunks(metadata: Metadata) -> list[Any]:
    found = metadata.state_dict_metadata[f"model.{HEAD}"].chunks  # type: ignore[union-attr]
    assert len(found) == 3
    return found


def infos(metadata: Metadata) -> dict[Any, Any]:
    found: dict[Any, Any] = metadata.storage_data
    return found


def with_info(**values: object) -> Callable[[Metadata], object]:
    def change(metadata: Metadata) -> None:
        key = next(one for one in infos(metadata) if one.fqn == f"model.{HEAD}" and one.offset[0] == 3)
        for name, value in values.items():
            setattr(infos(metadata)[key], name, value)

    return change


def resized(metadata: Metadata) -> None:
    for one in chunks(metadata):
        object.__setattr__(one, "sizes", torch.Size((1, 4)))


@pytest.mark.parametrize(
    ("change", "code", "texts"),
    [
        (
            lambda m: chunks(m).pop(),
            "E205",
            ["its shards do not make up its shape [8, 4]", "incomplete or damaged"],
        ),
        (lambda m: chunks(m).append(chunks(m)[0]), "E205", ["its shards do not make up its shape [8, 4]"]),
        (lambda m: chunks(m).clear(), "E205", ["its shards do not make up its shape [8, 4]"]),
        (lambda m: infos(m).clear(), "E212", ["no file holds its shard from [0, 0] on. Hint: copy it again"]),
        (with_info(relative_path="../x"), "E301", ["'../x' is not a plain file name in the checkpoint"]),
        (with_info(relative_path="/etc/passwd"), "E301", ["do not use the checkpoint"]),
        (
            with_info(relative_path="__9_0.distcp"),
            "E212",
            ["__9_0.distcp missing: 1 of 3 files are not there"],
        ),
        (with_info(length=10**9), "E206", ["cut off: it has", "and 'lm_head.weight' ends at"]),
        (with_info(offset=2**70), "E202", ["it does not say where the tensors are"]),
        (with_info(offset=-1), "E202", ["it does not say where the tensors are"]),
        (with_info(offset=1), "E202", ["not a torch.save file"]),
        (
            with_info(transform_descriptors=["zstd"]),
            "E202",
            ["is compressed (zstd), which cannot be read", "save the checkpoint again without extensions"],
        ),
        (resized, "E213", ["a shard of 'lm_head.weight' is [2, 4] there, and [1, 4] in .metadata"]),
        (
            lambda m: object.__setattr__(chunks(m)[0], "offsets", torch.Size((9, 0))),
            "E205",
            ["a shard of [3, 4] from [9, 0] on goes beyond its shape [8, 4]", "save the checkpoint again"],
        ),
        (
            lambda m: object.__setattr__(chunks(m)[0], "offsets", torch.Size((0,))),
            "E205",
            ["a shard of it has no place in it"],
        ),
        (
            lambda m: setattr(m.state_dict_metadata[f"model.{HEAD}"], "chunks", None),
            "E205",
            ["it has no shape, or no shards"],
        ),
        (lambda m: setattr(m, "storage_data", None), "E202", ["it lists no tensors, or not where they are"]),
        (
            lambda m: infos(m).update({1: 2}),
            "E202",
            ["it does not say where the tensors are", "copy the checkpoint"],
        ),
    ],
)
def test_a_damaged_list_is_refused(
    change: Callable[[Metadata], object], code: str, texts: list[str], tmp_path: Path
) -> None:
    found = "\n".join(changed(tmp_path / "a", change))
    assert found.startswith(code), found
    assert all(text in found for text in texts), found


def test_a_shard_must_be_one_tensor(tmp_path: Path) -> None:
    folder = write_dcp(tmp_path / "a", {"w": torch.ones(2)}, ranks=1)
    torch.save([torch.ones(2)], folder / "__0_0.distcp")
    metadata: Metadata = pickle.loads((folder / ".metadata").read_bytes())  # noqa: S301
    for one in infos(metadata).values():
        one.length = (folder / "__0_0.distcp").stat().st_size
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    (found,) = refused(folder)
    assert "the pickle is not that of one tensor" in found


def test_shards_of_several_formats_are_refused(tmp_path: Path) -> None:
    one = Box((0, 0), Stored("a", "F32", (1, 2), Path("x"), 0))
    two = Box((1, 0), Stored("b", "BF16", (1, 2), Path("x"), 0))
    with pytest.raises(MergecoreError, match="its shards are of several formats: BF16, F32") as caught:
        joined("w", (2, 2), [one, two], "x")
    assert caught.value.code == "E205"


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"", "E202", "the pickle is damaged"),
        (pickle.dumps({"a": 1}), "E202", "it is not the list of a distributed checkpoint"),
        (b"\x80\x02" + b"}" * 2000 + b".", "E308", "the pickle has more than 1000 steps"),
        (b"\x80\x02" + b"}" * 5000 + b".", "E308", "the list of tensors has 5003 bytes, limit 4000"),
        (b"\x80\x02" + b"}" * 5000 + b".", "E308", "is it the file that torch wrote?"),
    ],
)
def test_what_is_no_list_is_refused(
    data: bytes, code: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from mergecore_plugins.sources.distributed import metadata, weights

    monkeypatch.setattr(weights, "MAX_METADATA", 4000)
    monkeypatch.setattr(metadata, "_ALLOWED", replace(metadata._ALLOWED, steps=1000))
    folder = write_dcp(tmp_path / "a", llama(1))
    (folder / ".metadata").write_bytes(data)
    (found,) = refused(folder)
    assert found.startswith(code)
    assert text in found
