"""`mergecore diff` and `mergecore inspect` as they are typed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_types import Cli
from safetensors.torch import save_file
from tiny import HIDDEN, llama, llama_config, read_tensors, write_checkpoint, write_llama

import mergecore
from mergecore_plugins.look.comparing import compared


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of 20 layers, and two fine-tunes that moved in directions of their own, one of them in a half."""
    monkeypatch.chdir(tmp_path)
    base = llama(20)
    write_checkpoint(tmp_path / "base", base, llama_config(20))
    for seed, name in enumerate(("a", "b")):
        draw = torch.Generator().manual_seed(seed)
        moved = {
            key: one + 0.05 * torch.randn(one.shape, generator=draw) * (name == "a" or ".1" in key)
            for key, one in base.items()
        }
        write_checkpoint(tmp_path / name, moved, llama_config(20))
    return tmp_path


# ---- diff --------------------------------------------------------------------------------------------------


def test_every_number_is_that_of_numpy(models: Path, cli: Cli) -> None:
    done = cli("diff", "a", "b", "--base", "base", "--json", "--rank")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    a, b, base = (
        {k: v.double().numpy() for k, v in read_tensors(models / n).items()} for n in ("a", "b", "base")
    )
    assert {one["name"] for one in found["tensors"]} == base.keys()
    for one in found["tensors"]:
        name = one["name"]
        first, second = a[name] - base[name], b[name] - base[name]
        for key, delta in (("change_a", first), ("change_b", second)):
            assert one[key]["relative"] == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(base[name]))
            assert one[key]["changed"] == np.mean(delta != 0)
            assert one[key]["largest"] == np.abs(delta).max()
        if np.linalg.norm(second):
            cosine = np.sum(first * second) / (np.linalg.norm(first) * np.linalg.norm(second))
            assert one["changes"]["cosine"] == pytest.approx(cosine, abs=1e-9)
            both = (first != 0) & (second != 0)
            assert one["changes"]["same_sign"] == np.mean(np.sign(first[both]) == np.sign(second[both]))
        else:
            assert one["changes"] == {"cosine": None, "same_sign": None}
        if first.ndim == 2:
            values = np.linalg.svd(first.astype("f4"), compute_uv=False)
            shares = values / values.sum()
            assert one["effective_rank"][0] == pytest.approx(
                np.exp(-(shares * np.log(shares)).sum()), rel=1e-3
            )


def test_the_numbers_do_not_depend_on_threads(models: Path, cli: Cli) -> None:
    one, four = (cli("diff", "a", "b", "--json", "-j", threads).out for threads in ("1", "4"))
    assert one == four


def test_tables_are_told_by_role_and_by_layer(models: Path, cli: Cli) -> None:
    done = cli("diff", "a", "b", "--base", "base")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[0] == "A  a: llama, 20 layers, 2.95 k parameters, F32"
    assert any(line.startswith("attn.q") and line.split()[1] == "20" for line in lines)
    layers = [line.split()[0] for line in lines if line.startswith("model.layers.") and " 0 " not in line]
    assert layers[0] == "model.layers.0-1"
    assert "config.json  the same" in lines
    assert lines[-1].startswith("C is a base of A and B")


def test_what_cannot_be_compared_is_listed_and_the_code_is_3(models: Path, cli: Cli) -> None:
    wide = {name: torch.cat([one, one]) for name, one in llama(20).items()}
    del wide["model.norm.weight"]
    wide["extra.ids"] = torch.arange(3)
    write_checkpoint(models / "wide", wide, llama_config(20, hidden_size=8))
    done = cli("diff", "base", "wide")
    assert done.code == 3
    assert "0 tensors can be compared" in done.out
    assert "1 only in A: 'model.norm.weight'" in done.out
    assert "1 only in B: 'extra.ids'" in done.out
    assert "shapes [" in done.out
    assert "cannot judge who was made of whom: 0 matrices with 0 entries can be compared" in done.out
    assert "E225: the weights do not say whether the models have one origin" in done.err
    assert "compare models of one architecture, and a --base that both may come from" in done.err


@pytest.mark.parametrize("base", [(), ("--base", "base")])
def test_a_report_of_models_without_a_common_tensor_has_no_tables(
    models: Path, cli: Cli, base: tuple[str, ...]
) -> None:
    renamed = {f"other.{name}": one for name, one in llama(20).items()}
    write_checkpoint(models / "renamed", renamed, llama_config(20))
    done = cli("diff", "a", "renamed", *base, "--html", "report.html")
    assert (done.code, "E001" in done.err) == (3, False), done.err
    text = (models / "report.html").read_text()
    assert "No tensor can be compared." in text
    assert "Only in B: " in text
    assert "By role" not in text
    assert "<table" not in text


def test_numbers_that_are_not_weights_are_not_compared(models: Path, cli: Cli) -> None:
    for name in ("one", "other"):
        write_checkpoint(models / name, {**llama(2), "ids": torch.arange(3)}, llama_config(2))
    assert json.loads(cli("diff", "one", "other", "--json").out)["skipped"] == {"ids": "I64 is not compared"}


def test_differences_beside_the_weights_are_told(models: Path, cli: Cli) -> None:
    write_llama(models / "other", 20, rope_theta=5e5)
    (models / "other" / "chat_template.jinja").write_text("{{ messages }}")
    done = cli("diff", "base", "other")
    assert "config.json  'rope_theta -, 500000.0'" in done.out
    assert "template     none in A" in done.out
    assert "vocabulary   no tokenizer in base and other" in done.out
    assert done.out.splitlines()[-1] == "A and B have the same weights"
    assert "no tensor moved" in done.out


def test_a_tensor_is_compared_where_one_of_the_models_is_in_two_files(models: Path, cli: Cli) -> None:
    tensors = read_tensors(models / "a")
    names = sorted(tensors)
    (models / "a" / "model.safetensors").unlink()
    index: dict[str, str] = {}
    for number, part in enumerate((names[:50], names[50:]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, models / "a" / file)
        index |= dict.fromkeys(part, file)
    (models / "a" / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    assert len(json.loads(cli("diff", "a", "base", "--json").out)["tensors"]) == len(names)


def test_numbers_that_are_not_finite_are_told(models: Path, cli: Cli) -> None:
    broken = read_tensors(models / "a")
    broken["model.norm.weight"][1] = float("nan")
    write_checkpoint(models / "broken", broken, llama_config(20))
    done = cli("diff", "base", "broken")
    assert done.code == 3
    assert "E234" in done.err
    assert "model.norm.weight" in done.err


def test_a_report_is_written_and_nothing_is_overwritten(models: Path, cli: Cli) -> None:
    done = cli("diff", "a", "b", "--base", "base", "--html", "report.html")
    assert done.code == 0, done.err
    text = (models / "report.html").read_text()
    assert done.err == f"wrote report.html, {len(text.encode()) / 1000:.3g} kB\n"
    assert "C is a base of A and B" in text
    again = cli("diff", "a", "b", "--html", "report.html")
    assert (again.code, (models / "report.html").read_text()) == (6, text)
    assert "E501: report.html exists. Hint: choose another name, or remove it" in again.err


def test_a_report_needs_a_folder(models: Path, cli: Cli) -> None:
    done = cli("diff", "a", "b", "--html", "nowhere/report.html")
    assert done.code == 6
    assert (
        "nowhere/report.html: the folder nowhere does not exist. Hint: make it, or choose another" in done.err
    )


def test_what_is_the_same_only_in_part_is_not_called_the_same(models: Path, cli: Cli) -> None:
    more = {**read_tensors(models / "base"), "extra": torch.ones(3)}
    write_checkpoint(models / "more", more, llama_config(20))
    rounded = {name: one.bfloat16() for name, one in read_tensors(models / "base").items()}
    write_checkpoint(models / "rounded", rounded, llama_config(20))
    said = [cli("diff", "base", name).out.splitlines()[-1] for name in ("base", "more", "rounded")]
    same = "A and B have the same weights"
    assert said[0] == same
    assert said[1] == f"{same} in the tensors that can be compared"
    assert said[2] == f"{same} once they are rounded to the coarser format"


def test_an_adapter_is_compared_on_its_base(models: Path, cli: Cli) -> None:
    (models / "adapter").mkdir()
    module = "base_model.model.model.layers.3.self_attn.q_proj"
    a, b = torch.randn(1, HIDDEN), torch.randn(HIDDEN, 1)
    factors = {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    save_file(factors, models / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}
    (models / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    done = cli("diff", "base", "base+adapter", "--json", "--rank")
    assert done.code == 0, done.err
    moved = [one for one in json.loads(done.out)["tensors"] if one["change_b"]["changed"]]
    assert [one["name"] for one in moved] == ["model.layers.3.self_attn.q_proj.weight"]
    assert moved[0]["change_b"]["largest"] == pytest.approx(float((b @ a).abs().max()), rel=1e-6)
    assert moved[0]["effective_rank"] == pytest.approx([1], rel=1e-3)


def test_weights_that_are_not_there_yet_are_downloaded_first(models: Path) -> None:
    """As those of the hub are: only their headers have been read before."""
    opened = mergecore.planner().open(str(models / "a"))
    absent = tuple(replace(file, stamp=(0,) * len(file.stamp)) for file in opened.weight_files)
    hidden = models / "a" / "model.safetensors"
    kept = hidden.rename(models / "kept")
    asked = []

    def fetch(progress: object) -> None:
        asked.append(progress)
        kept.rename(hidden)

    other = mergecore.planner().open(str(models / "b"))
    description = mergecore.planner().describe(other)
    far = replace(opened, fetch=fetch, weight_files=absent)
    assert len(compared([far, other], description).measured) == len(other.tensors)
    assert len(asked) == 1


# ---- inspect -----------------------------------------------------------------------------------------------


def test_a_model_is_shown(models: Path, cli: Cli) -> None:
    done = cli("inspect", "base")
    assert done.code == 0, done.err
    assert all(len(line) <= 80 for line in done.out.splitlines())
    for line in (
        "  family       llama",
        "  layers       20 in model.layers",
        "  formats      183 tensors F32",
    ):
        assert line in done.out.splitlines()
    assert "  odd: there is no tokenizer" in done.out
    facts = json.loads(cli("inspect", "base", "--json").out)
    assert facts["parameters"] == sum(one.numel() for one in read_tensors(models / "base").values())
    assert facts["roles"]["attn.q"]["tensors"] == 20


def test_what_is_odd_is_told(models: Path, cli: Cli) -> None:
    odd = llama(4)
    odd["model.layers.2.self_attn.q_proj.bias"] = torch.zeros(4)
    odd["model.norm.weight"] = odd["model.norm.weight"].bfloat16()
    odd["model.rotary.inv_freq_ids"] = torch.arange(3)
    odd["nothing"] = torch.zeros(0)
    write_checkpoint(models / "odd", odd, llama_config(4))
    done = cli("inspect", "odd")
    assert "odd: its weights have several formats: " in done.out
    assert "odd: 1 tensor is not of floats, such as quantised ones or buffers: 'model.rotary.inv_" in done.out
    assert "odd: 1 tensor is empty: 'nothing'" in done.out
    assert "odd: 2 kinds of layers in model.layers; other than most: '2'" in done.out


def test_a_file_of_tensors_has_no_config(models: Path, cli: Cli) -> None:
    save_file({"x": torch.ones(3)}, models / "alone.safetensors")
    done = cli("inspect", "alone.safetensors")
    assert done.code == 0, done.err
    assert "odd: there is no config.json, so nothing says what kind of model it is" in done.out
    assert "family       unknown" in done.out


@pytest.mark.parametrize("more", [[], ["--rank"]])
def test_no_row_of_a_table_is_wider_than_a_screen(models: Path, cli: Cli, more: list[str]) -> None:
    """What does not fit stands in a second table, whose rows begin with the same words."""
    lines = cli("diff", "a", "b", "--base", "base", *more).out.splitlines()
    rows = [line for line in lines if "  " in line.strip()]
    assert max(map(len, rows)) <= 80
    words = {word for line in lines if line.startswith("   ") for word in line.split()}
    assert words >= {"moved", "changed", "cosine", "sign", *(["rank"] if more else [])}
    assert sum(line.startswith("all ") for line in lines) == 1 + len(more)
