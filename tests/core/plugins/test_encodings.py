"""Output writers that store numbers in an encoding of their own, and what they can do wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fixture_types import Cli, WritePlugin
from safetensors.torch import load_file, save_file
from tiny_tokenizers import tokenizer_json
from torch import Tensor

import mergecore

gguf = pytest.importorskip(
    "gguf", reason="the package gguf is not installed; it comes with the extra 'bench'"
)
THIRD = Path(__file__).resolve().parents[2] / "third_party" / "q8"
SHAPES = {"big": (600, 1024), "mean": (3, 64), "odd": (4, 33), "norm": (64,), "deep": (2, 3, 32)}
"""`big` has three blocks, the last one short; `odd` has rows that are no multiple of 32."""


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Tensor]]:
    """Two models, which `c.yml` averages into a file of GGUF; what the average is in float32."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(THIRD)
    drawn = torch.Generator().manual_seed(11)
    made = []
    for name in "ab":
        tensors = {
            key: torch.randn(shape, generator=drawn).to(torch.bfloat16) for key, shape in SHAPES.items()
        }
        tensors["mean"][0, :32] = 0  # a block without a scale
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps({"model_type": "tiny"}))
        Path(name, "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", list("abcd"))))
        save_file(tensors, f"{name}/model.safetensors")
        made.append(tensors)
    write_config({"writer": "q8"})
    yield {key: (made[0][key].float() + made[1][key].float()) / 2 for key in SHAPES}
    for name in ("q8", "q8_codec", "q8_file"):
        sys.modules.pop(name, None)


def write_config(output: dict[str, object], **more: object) -> None:
    models = [{"model": f"./{name}", "parameters": {"weight": 1}} for name in "ab"]
    said = {"name": "Tiny", "merge_method": "linear", "models": models, "output": output, **more}
    Path("c.yml").write_text(yaml.safe_dump(said))


def stored(folder: str) -> dict[str, tuple[str, bytes]]:
    """Encoding and bytes of each tensor of a file, as the gguf package reads them."""
    tensors = gguf.GGUFReader(f"{folder}/model.gguf").tensors
    return {one.name: (one.tensor_type.name, one.data.tobytes()) for one in tensors}


def quantised(numbers: Tensor) -> bytes:
    """What the gguf package makes of them."""
    made: bytes = gguf.quants.quantize(numbers.numpy(), gguf.GGMLQuantizationType.Q8_0).tobytes()
    return made


def test_matrices_are_stored_as_the_gguf_package_quantises_them(models: dict[str, Tensor], cli: Cli) -> None:
    outcome = cli("merge", "c.yml", "out")
    assert outcome.code == 0, outcome.err
    found = stored("out")
    assert found.keys() == models.keys()
    for name in ("big", "mean", "deep"):
        assert found[name] == ("Q8_0", quantised(models[name])), name
    for name in ("odd", "norm"):
        assert found[name] == ("BF16", models[name].bfloat16().view(torch.uint8).numpy().tobytes()), name
    near = gguf.quants.dequantize(np.frombuffer(found["big"][1], np.uint8), gguf.GGMLQuantizationType.Q8_0)
    assert abs(near - models["big"].numpy().ravel()).max() < 0.03


def test_a_writer_sees_config_vocabulary_and_title(cli: Cli) -> None:
    assert cli("merge", "c.yml", "out").code == 0
    fields = gguf.GGUFReader("out/model.gguf").fields
    assert fields["general.architecture"].contents() == "tiny"
    assert fields["general.name"].contents() == "Tiny"
    assert fields["tokenizer.ggml.tokens"].contents() == ["a", "b", "c", "d"]


def test_workers_executors_and_memory_change_no_byte(cli: Cli) -> None:
    words = [["-j", "1"], ["-j", "2"], ["-j", "2", "--executor", "processes"], ["--max-memory", "400MB"]]
    made = []
    for number, options in enumerate(words):
        outcome = cli("merge", "c.yml", f"out{number}", *options)
        assert outcome.code == 0, outcome.err
        made.append({path.name: path.read_bytes() for path in Path(f"out{number}").iterdir()})
    assert made == [made[0]] * 4


def test_an_interrupted_run_goes_on_to_the_same_bytes(cli: Cli) -> None:
    assert cli("merge", "c.yml", "whole").code == 0

    def stop(event: object) -> None:
        if getattr(event, "done", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mergecore.merge("c.yml", "out", run_options=mergecore.RunOptions(threads=1), progress=stop)
    assert cli("merge", "c.yml", "out", "--resume", "--recheck").code == 0
    assert Path("out/model.gguf").read_bytes() == Path("whole/model.gguf").read_bytes()


def test_blocks_that_are_cut_across_are_put_together(models: dict[str, Tensor], cli: Cli) -> None:
    """Columns of (1000, 2, 160) are worked on 262 at a time, and blocks of 32 do not end there."""
    tensor = torch.randn((1000, 2, 160), generator=torch.Generator().manual_seed(2))
    for name in "ab":
        save_file({"tall": tensor}, f"{name}/model.safetensors")
    columns = mergecore.MergeMethod(
        name="columns",
        merge=lambda group, _: group.map_columns(lambda block: block.x[0]),
        params=mergecore.NoParams,
    )
    said = {"merge_method": "columns", "models": [{"model": "./a"}], "output": {"writer": "q8"}}
    for threads in (1, 2):
        options = mergecore.RunOptions(threads=threads)
        registry = mergecore.Registry.discover().with_methods(columns)
        mergecore.merge(said, f"out{threads}", registry=registry, run_options=options)
        assert stored(f"out{threads}") == {"tall": ("Q8_0", quantised(tensor))}
        assert cli("verify", f"out{threads}").code == 0


def test_in_memory_a_plan_makes_tensors_of_their_dtypes(models: dict[str, Tensor]) -> None:
    made = mergecore.run(mergecore.plan("c.yml"))
    assert torch.equal(made["big"], models["big"].bfloat16())


def test_numbers_that_an_encoding_cannot_hold_are_told(cli: Cli) -> None:
    tensors = load_file("a/model.safetensors")
    tensors["mean"][1, 7] = 3e7  # 127 times what float16 holds is 8.3e6
    save_file(tensors, "a/model.safetensors")
    [line] = [one for one in cli("merge", "c.yml", "out").err.splitlines() if "error" in one]
    assert "E403: tensor 'mean': 1 value is too large for Q8_0: up to 1.5" in line
    assert "the limit is 8.31901e+06; the first at index 71" in line
    assert cli("merge", "c.yml", "out", "--allow-nonfinite").code == 0


# ---- verify ------------------------------------------------------------------------------------------------


def test_the_manifest_names_writer_and_encodings(cli: Cli) -> None:
    assert cli("merge", "c.yml", "out").code == 0
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())
    assert manifest["writer"] == "q8"
    big, norm = manifest["tensors"]["big"], manifest["tensors"]["norm"]
    assert (big["dtype"], big["encoding"], big["nbytes"]) == ("BF16", "Q8_0", 600 * 1024 // 32 * 34)
    assert "encoding" not in norm
    outcome = cli("verify", "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert "note" not in outcome.out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[:-70] + bytes([data[-70] ^ 1]) + data[-69:], "is damaged: its digest is"),
        (
            lambda data: data.replace(b"norm", b"morn", 1),
            "tensor 'norm' is absent in the header, BF16 [64] at",
        ),
        (
            lambda data: data[:4] + b"\x09" + data[5:],
            "failed: ValueError: Sorry, file appears to be version 9",
        ),
        (lambda data: data[:-1], "bytes, not"),
        (lambda data: data.replace(b"Tiny", b"Yint", 1), "the header differs from the manifest"),
    ],
)
def test_what_is_wrong_with_a_file_is_found(cli: Cli, change: Callable[[bytes], bytes], told: str) -> None:
    assert cli("merge", "c.yml", "out").code == 0
    Path("out/model.gguf").write_bytes(change(Path("out/model.gguf").read_bytes()))
    outcome = cli("verify", "out")
    assert outcome.code != 0
    assert told in outcome.err


def test_without_the_writer_the_bytes_are_compared(cli: Cli) -> None:
    assert cli("merge", "c.yml", "out").code == 0
    outcome = cli("verify", "out", "--no-plugin", "q8")
    assert outcome.code == 0
    assert "note: what the files say of their tensors was not read: the output writer 'q8' is" in outcome.out
    data = bytearray(Path("out/model.gguf").read_bytes())
    data[-100] ^= 1
    Path("out/model.gguf").write_bytes(data)
    assert cli("verify", "out", "--no-plugin", "q8").code != 0


# ---- what a writer does wrong ------------------------------------------------------------------------------

WRONG = """
from mergecore import OutputWriter, hookimpl
from mergecore.types import Codec, Layout, OutputFile, Slot

def encode(numbers):
    return ENCODED

def lay_out(request, params):
    slots, end = {}, 0
    for one in request.tensors:
        nbytes = one.count // 32 * 34
        slots[one.name] = Slot(0, end, nbytes, "Q8_0")
        end += nbytes
    files = (OutputFile("model.bin", b"", end),)
    CHANGES
    return Layout(files, slots)

@hookimpl
def mergecore_output_writers():
    codecs = {"Q8_0": Codec(block_elements=BLOCK, block_bytes=BYTES, encode=encode)}
    yield OutputWriter(name="wrong", layout=lay_out, codecs=codecs)
"""
GOOD = {"ENCODED": "bytes(len(numbers) // 32 * 34)", "CHANGES": "", "BLOCK": "32", "BYTES": "34"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {},
            [
                "stores tensor 'odd' as Q8_0, in blocks of 32 numbers; its rows have 33, which is not a multiple"
            ],
        ),
        (
            {"CHANGES": "slots['odd'] = Slot(0, 0, 7)"},
            [
                "has 7 bytes for tensor 'odd', which takes 264",
                "puts tensor 'big' over the place of tensor 'odd' in",
            ],
        ),
        ({"CHANGES": "del slots['odd']"}, ["has no place for tensor 'odd'"]),
        (
            {"CHANGES": "del slots['odd']; slots['even'] = Slot(0, 0, 0)"},
            ["has no place for tensor 'odd'", "has a place for a tensor 'even', which nobody makes"],
        ),
        (
            {"CHANGES": "slots['odd'] = Slot(0, end, 264)"},
            ["puts tensor 'odd' outside of 'model.bin', which has"],
        ),
        ({"CHANGES": "slots['odd'] = Slot(1, 0, 264)"}, ["puts tensor 'odd' into file 1, and has 1"]),
        (
            {"CHANGES": "slots['odd'] = Slot(0, end, 264, 'Q4')"},
            ["stores tensor 'odd' as 'Q4', and has no such"],
        ),
        (
            {"CHANGES": "slots['odd'] = Slot(0, end, 264); files = (OutputFile('x', bytes(9), end + 264),)"},
            ["puts tensor 'big' over the header in 'x'"],
        ),
        ({"CHANGES": "return 7"}, ["returns int in place of a Layout"]),
        (
            {"BLOCK": "48"},
            ["has an encoding 'Q8_0' in blocks of 48 numbers; a power of two up to 262144 is needed"],
        ),
        ({"BLOCK": "2**19"}, ["has an encoding 'Q8_0' in blocks of 524288 numbers; a power of two up to"]),
        ({"BYTES": "0"}, ["has an encoding 'Q8_0' of 0 bytes for 32 numbers"]),
        ({"BYTES": "257"}, ["has an encoding 'Q8_0' of 257 bytes for 32 numbers"]),
    ],
)
def test_layouts_that_cannot_be_are_refused_in_the_plan(
    write_plugin: WritePlugin, cli: Cli, changes: dict[str, str], told: list[str]
) -> None:
    code = WRONG
    for word, value in {**GOOD, **changes}.items():
        code = code.replace(word, value)
    write_plugin("wrong", code)
    write_config({"writer": "wrong"})
    outcome = cli("plan", "c.yml")
    assert outcome.code != 0
    for one in told:
        assert f"output writer 'wrong' {one}" in outcome.err
    hint = "Hint: report it to the authors of the plugin, or choose another writer by 'output: {writer: …}'"
    assert ("E605" in outcome.err) or ("E402" in outcome.err and hint in outcome.err)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ("[7]", ["E605: output writer 'wrong' reads int in place of Stored"]),
        ("1 / 0", ["E604: output writer 'wrong' of plugin 'wrong'", "failed: ZeroDivisionError"]),
        ("[]", ["E508: ", "tensor 'big' is absent in the header, Q8_0 [32, 32] at byte 0 in the manifest"]),
    ],
)
def test_what_is_wrong_with_reading_back_is_told_before_the_model_is_complete(
    write_plugin: WritePlugin, cli: Cli, found: str, told: list[str]
) -> None:
    for name in "ab":
        save_file({"big": torch.ones(32, 32), "empty": torch.ones(0, 32)}, f"{name}/model.safetensors")
    code = WRONG.replace("codecs=codecs)", f"codecs=codecs, read=lambda path: {found})")
    for word, value in GOOD.items():
        code = code.replace(word, value)
    write_plugin("wrong", code)
    write_config({"writer": "wrong"})
    outcome = cli("merge", "c.yml", "out")
    assert outcome.code != 0
    assert [one for one in told if one not in outcome.err] == []
    assert not Path("out").exists()


def test_integers_are_never_encoded(write_plugin: WritePlugin, cli: Cli) -> None:
    for name in "ab":
        save_file({"ids": torch.arange(64).reshape(2, 32)}, f"{name}/model.safetensors")
    code = WRONG
    for word, value in GOOD.items():
        code = code.replace(word, value)
    write_plugin("wrong", code)
    write_config({"writer": "wrong"})
    assert "stores tensor 'ids' as Q8_0; it is I64, which is never encoded" in cli("plan", "c.yml").err


@pytest.mark.parametrize(
    ("encoded", "told"),
    [
        (
            "b'abc'",
            "E605: tensor 'big': encoding 'Q8_0' of the output writer 'wrong' makes 3 bytes of 262144",
        ),
        (
            "1 / 0",
            "E604: tensor 'big': encoding 'Q8_0' of the output writer 'wrong' failed: ZeroDivisionError",
        ),
        ("None", "E604: tensor 'big': encoding 'Q8_0' of the output writer 'wrong' failed: TypeError"),
        ("numbers.fill(0)", "failed: ValueError: assignment destination is read-only"),
    ],
)
def test_what_an_encoding_does_wrong_is_no_fault_of_the_method(
    write_plugin: WritePlugin, cli: Cli, encoded: str, told: str
) -> None:
    for name in "ab":
        save_file({"big": torch.ones(600, 1024)}, f"{name}/model.safetensors")
    code = WRONG
    for word, value in {**GOOD, "ENCODED": encoded}.items():
        code = code.replace(word, value)
    write_plugin("wrong", code)
    write_config({"writer": "wrong"})
    outcome = cli("merge", "c.yml", "out", "-j", "1")
    assert outcome.code != 0
    assert told in outcome.err
    assert "linear" not in outcome.err
    assert not Path("out").exists()
