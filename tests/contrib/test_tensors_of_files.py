"""What functions of files are handed and give back, and what tells one file from another."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixture_types import Cli
from tiny import llama, llama_config, read_tensors, write_checkpoint
from written_methods import HEAD, NEEDED, ONE, OPTIONAL, write

from mergecore import PluginError
from mergecore.testing import run_method
from mergecore_contrib.method_files import VARIABLE, methods_of

FILES = Path(__file__).parent / "files"

# ---- tensors as they are -----------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", [OPTIONAL, NEEDED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_come_and_go_as_they_are(signature: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """In float32, (1e-9 - 1) + 1 is 0, and 1e30 + 1 - 1e30 is 0 too."""
    models = [torch.tensor([1e-9, 1e30, 0.1], dtype=dtype)]
    base = torch.tensor([1.0, -1e-20, 1e8], dtype=dtype)
    [one] = methods_of(write(tmp_path, "@merge_method(name='one')\n" + ONE.format(signature)))
    assert torch.equal(run_method(one, one.params(), models, base), models[0])


@pytest.mark.parametrize("signature", [OPTIONAL, NEEDED])
def test_a_function_may_write_into_what_it_gets(signature: str, tmp_path: Path) -> None:
    body = ONE.format(signature).replace("tensors[0]", "base_tensor.add_(tensors[0].mul_(2))")
    [one] = methods_of(write(tmp_path, "@merge_method(name='one')\n" + body))
    models, base = [torch.tensor([3.0, 0.5])], torch.tensor([1.0, -2.0])
    assert run_method(one, one.params(), models, base).tolist() == [7, -1]  # 1 + 2 * 3, -2 + 2 * 0.5
    assert (models[0].tolist(), base.tolist()) == ([3, 0.5], [1, -2])


def test_a_base_that_is_left_out_is_none(tmp_path: Path) -> None:
    body = ONE.format(OPTIONAL).replace("tensors[0]", "tensors[0] + (base_tensor is None)")
    [one] = methods_of(write(tmp_path, "@merge_method(name='one')\n" + body))
    assert run_method(one, one.params(), [torch.ones(2)]).tolist() == [2, 2]
    assert run_method(one, one.params(), [torch.ones(2)], torch.zeros(2)).tolist() == [1, 1]


@pytest.mark.parametrize(("dtype", "width"), [("F64", 8), ("F32", 4), ("BF16", 4)])
def test_memory_goes_by_the_precision_of_the_merge(dtype: str, width: int) -> None:
    inputs = [SimpleNamespace(tensor=SimpleNamespace(dtype=dtype))] * 2
    step: Any = SimpleNamespace(inputs=inputs, operands=inputs, shape=(3, 5))
    ask = next(iter(methods_of(FILES / "emr.py"))).extra_memory
    assert ask
    assert ask(step) == (0, width * (2 + 3) * 15)


# ---- another file is another merge -------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_checkpoint(Path(name), llama(2, seed=seed), llama_config(2))
    return tmp_path


SCALED = "@merge_method(name='one')\n" + ONE.format(NEEDED).replace("[0]\n", "[0] * 2\n")


def test_another_file_is_another_merge(models: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    write(models, SCALED)
    Path("one.yml").write_text("merge_method: one\nbase_model: ./base\nmodels: [{model: a}]\n")
    monkeypatch.setenv(VARIABLE, "own.py")
    a = read_tensors(Path("a"))
    assert cli("merge", "one.yml", "out").code == 0
    before = json.loads(Path("out/mergecore-manifest.json").read_text())["plugins"]["one"]
    Path("moved").mkdir()
    Path("own.py").rename("moved/own.py")
    monkeypatch.setenv(VARIABLE, "moved/own.py")
    written = Path("out/model.safetensors").stat().st_mtime_ns
    assert cli("merge", "one.yml", "out").code == 0
    assert Path("out/model.safetensors").stat().st_mtime_ns == written
    write(Path("moved"), SCALED.replace("* 2", "* 3"))
    refused = cli("merge", "one.yml", "out")
    assert refused.code != 0
    assert "plugin one" in refused.err
    assert cli("merge", "one.yml", "out", "--overwrite").code == 0
    after = json.loads(Path("out/mergecore-manifest.json").read_text())["plugins"]["one"]
    assert after != before
    assert before.partition(", sha256 ")[2] == sha256(HEAD.encode() + SCALED.encode()).hexdigest()
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(read_tensors(Path("out"))[name], a[name] * 3)


def test_another_module_beside_the_file_is_another_merge(tmp_path: Path) -> None:
    """In another process: what a process has imported stays what it is."""
    write(tmp_path, "import helper_of_own\n" + SCALED)
    found = []
    for text in ("x = 1\n", "x = 2\n", "x = 2\n"):
        (tmp_path / "helper_of_own.py").write_text(text)
        code = "from mergecore_contrib.method_files import methods_of; print(methods_of('own.py')[0].version)"
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        found.append(done.stdout)
    assert found[0] != found[1] == found[2]


def test_a_complex_result_is_refused(tmp_path: Path) -> None:
    """Its imaginary part would be lost."""
    body = ONE.format("").replace("tensors[0]", "torch.fft.fft(tensors[0])")
    [one] = methods_of(write(tmp_path, "@merge_method(name='one')\n" + body))
    with pytest.raises(PluginError, match="complex") as caught:
        run_method(one, one.params(), [torch.ones(3)])
    assert caught.value.code == "E605"
