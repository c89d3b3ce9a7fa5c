"""How much is kept, of which modules, what is said of it, and that it is the same whoever works on it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fixture_types import Cli
from safetensors.torch import load_file
from tiny import llama, llama_config, write_checkpoint
from torch import Tensor

Q = "model.layers.0.self_attn.q_proj"
WIDE = {
    "hidden_size": 320,
    "intermediate_size": 560,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tuned(changes: dict[str, Tensor], layers: int = 1) -> dict[str, Tensor]:
    """Write a base, and a fine-tune with these changes; the base."""
    base = llama(layers)
    write_checkpoint(Path("base"), base, llama_config(layers))
    after = {name: one + changes.get(name, 0) for name, one in base.items()}
    write_checkpoint(Path("tuned"), after, llama_config(layers))
    return base


def diagonal(*values: float) -> Tensor:
    """A change of these singular values, turned so that no element says them."""
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(9))).Q
    change: Tensor = turn @ torch.diag(torch.tensor(values)) @ turn
    return change


def wide() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A base and a fine-tune of matrices that are large enough for a random projection."""
    drawn = torch.Generator().manual_seed(0)
    shapes = {name: tuple(_grown(one.shape)) for name, one in llama(1).items()}
    base = {name: torch.randn(shape, generator=drawn) for name, shape in shapes.items()}
    after = {}
    for name, one in base.items():
        change = torch.randn(one.shape, generator=drawn)
        if one.ndim == 2:
            u, s, v = torch.linalg.svd(change, full_matrices=False)
            change = (u * (torch.arange(1, len(s) + 1) ** -0.7) * s[0]) @ v
        after[name] = one + 0.01 * change
    for name, tensors in (("base", base), ("tuned", after)):
        write_checkpoint(Path(name), tensors, llama_config(1, **WIDE))
    return base, after


def _grown(shape: tuple[int, ...]) -> list[int]:
    return [{4: 320, 6: 560, 8: 8}[size] for size in shape]


def config() -> dict[str, object]:
    read: dict[str, object] = json.loads(Path("adapter/adapter_config.json").read_text())
    return read


def ranks() -> dict[str, int]:
    """The rank of every factored module, by its stored factors."""
    stored = load_file("adapter/adapter_model.safetensors")
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(one)
        for name, one in stored.items()
        if name.endswith("lora_A.weight")
    }


# ---- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "exact", "randomised", "streamed"])
def test_every_error_is_that_of_the_singular_values_left_out_and_is_said(
    method: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, after = wide()
    if method == "streamed":  # as changes are that are too large to be held in memory
        monkeypatch.setattr("mergecore_plugins.lora.making.changes.HELD", 0)
        method = "randomised"
    outcome = cli("extract-lora", "tuned", "base", "adapter", "--rank", "24", "--method", method)
    assert outcome.code == 0, outcome.err
    stored, facts = (
        load_file("adapter/adapter_model.safetensors"),
        load_file("adapter/extraction.safetensors"),
    )
    for name in (name for name in base if name.endswith("_proj.weight")):
        change = after[name].double() - base[name].double()
        module = "base_model.model." + name.removesuffix(".weight")
        product = stored[f"{module}.lora_B.weight"].double() @ stored[f"{module}.lora_A.weight"].double()
        error = float((change - product).norm())
        best = float(torch.linalg.svdvals(change)[24:].norm())
        assert best * 0.999 < error < best * 1.01
        said = facts[f"extraction.{name}"][0, 0, 0]
        assert said[:2].sqrt().tolist() == pytest.approx([float(change.norm()), error], rel=1e-3)


def test_the_table_is_on_the_screen_in_the_card_and_in_the_manifest(cli: Cli) -> None:
    tuned({f"{Q}.weight": diagonal(4, 2, 1, 0.5), "model.norm.weight": torch.full((4,), 0.5)})
    words = ("--rank", "2", "--exclude", "model.norm", "--min-share", "0.001")
    outcome = cli("extract-lora", "tuned", "base", "adapter", *words)
    assert outcome.code == 0, outcome.err
    error = math.sqrt(1.25 / 21.25)  # of 4, 2, 1, 0.5, the last two are left out
    assert re.search(rf"self_attn.q_proj +1 +rank 2 +\d+ bytes +{error:.2%}", outcome.out)
    whole = math.sqrt(2.25 / 22.25)  # and 4 * 0.5² = 1 of the norm
    assert f"{whole:.2%}" in outcome.out.splitlines()[-2]
    card = Path("adapter/README.md").read_text()
    assert f"| self_attn.q_proj | 1 | rank 2 | 64 bytes | {error:.2%} |" in card
    assert "library_name: peft" in card
    facts = json.loads(Path("adapter/mergecore-manifest.json").read_text())["facts"]
    assert facts["error"] == pytest.approx(whole, rel=1e-5)
    [norm] = [one for one in facts["kinds"] if one["kind"] == "model.norm"]
    assert (norm["how"], norm["error"]) == ("left out", 1.0)


def test_the_card_says_what_was_done_and_names_the_base_as_the_hub_wants_it(cli: Cli) -> None:
    tuned({})
    assert cli("extract-lora", "tuned", "base", "adapter", "--base-name", "org/base").code == 0
    _, front, text = Path("adapter/README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "peft",
        "tags": ["base_model:adapter:org/base", "peft", "lora", "mergecore"],
        "pipeline_tag": "text-generation",
        "base_model": "org/base",
        "base_model_relation": "adapter",
    }
    assert text.startswith(
        "# LoRA adapter\n\n"
        "mergecore extracted this LoRA adapter from `tuned`: it is the difference to its base `base`.\n"
    )
    assert cli("extract-lora", "tuned", "base", "local").code == 0
    assert "base_model" not in Path("local/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "rank"),
    [
        (("--rank", "3"), 3),
        (("--rank", "full"), 4),
        (("--energy", "0.9"), 2),  # 16 + 4 of 21.25 is 0.94
        (("--energy", "0.95"), 3),  # with 1 it is 0.988
        (("--energy", "0.99"), 4),
        (("--min-value", "0.9"), 3),
        (("--min-share", "0.4"), 2),
        (("--min-share", "0.1", "--rank", "2"), 2),
        (("--min-value", "0.9", "--energy", "0.9"), 2),
        (("--rank-pattern", "*.q_proj=1"), 1),
        (("--rank-pattern", "attn.q=2", "--rank-pattern", "*=4"), 2),
    ],
)
def test_the_rank_is_what_is_asked_for(words: tuple[str, ...], rank: int, cli: Cli) -> None:
    tuned({f"{Q}.weight": diagonal(4, 2, 1, 0.5)})
    outcome = cli("extract-lora", "tuned", "base", "adapter", *words)
    assert outcome.code == 0, outcome.err
    assert ranks()[Q] == rank


def test_what_has_not_changed_is_left_out_where_singular_values_decide(cli: Cli) -> None:
    tuned({f"{Q}.weight": diagonal(4, 2, 1, 0.5)})
    assert cli("extract-lora", "tuned", "base", "adapter", "--energy", "0.9").code == 0
    assert ranks() == {Q: 2}
    assert config()["target_modules"] == [Q]
    assert config()["modules_to_save"] is None


FORMATS = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(("before", "now"), [(a, b) for a in FORMATS for b in FORMATS if a != b])
def test_what_has_not_changed_but_its_format_is_left_out(
    before: torch.dtype, now: torch.dtype, cli: Cli
) -> None:
    """The base as the fine-tune's format holds it is no change, whichever is the finer."""
    base = {name: one.to(before) for name, one in llama(2).items()}
    after = {name: one.to(now) for name, one in base.items()}
    after[f"{Q}.weight"] = (base[f"{Q}.weight"].float() + diagonal(4, 2, 1, 0.5)).to(now)
    norm = "model.layers.1.input_layernorm.weight"
    after[norm] = after[norm] + 2**-6
    write_checkpoint(Path("base"), base, llama_config(2))
    write_checkpoint(Path("tuned"), after, llama_config(2))
    assert cli("extract-lora", "tuned", "base", "adapter", "--energy", "0.999").code == 0
    assert ranks() == {Q: 4}
    assert config()["modules_to_save"] == [norm.removesuffix(".weight")]


def test_a_change_that_the_format_of_the_base_does_not_hold_is_kept(cli: Cli) -> None:
    """Trained norms often differ by less than bfloat16 tells apart."""
    base = {name: one.bfloat16() for name, one in llama(1).items()}
    after = {name: one.float() for name, one in base.items()}
    after[f"{Q}.weight"] = after[f"{Q}.weight"] + diagonal(4, 2, 1, 0.5)
    after["model.norm.weight"] = after["model.norm.weight"] * (1 + 1e-4)
    write_checkpoint(Path("base"), base, llama_config(1))
    write_checkpoint(Path("tuned"), after, llama_config(1))
    assert cli("extract-lora", "tuned", "base", "adapter", "--energy", "0.999").code == 0
    assert config()["modules_to_save"] == ["model.norm"]
    stored = load_file("adapter/adapter_model.safetensors")["base_model.model.model.norm.weight"]
    assert torch.equal(stored, after["model.norm.weight"])


def test_a_rank_that_bounds_what_was_asked_for_is_said(cli: Cli) -> None:
    tuned({f"{Q}.weight": diagonal(4, 2, 1, 0.5)})
    outcome = cli("extract-lora", "tuned", "base", "adapter", "--energy", "0.95", "--rank", "2")
    assert f"--rank keeps less than asked for of 1 module {Q}\n" in outcome.err
    words = ("--energy", "0.9999", "--rank-pattern", "q_proj=1")
    outcome = cli("extract-lora", "tuned", "base", "as-said", *words)
    assert "keeps less" not in outcome.err


def test_the_factors_of_half_precision_are_rounded_once(cli: Cli) -> None:
    tuned({f"{Q}.weight": diagonal(4, 2, 1, 0.5)})
    assert cli("extract-lora", "tuned", "base", "adapter", "--dtype", "bfloat16").code == 0
    stored = load_file("adapter/adapter_model.safetensors")
    assert stored[f"base_model.model.{Q}.lora_A.weight"].dtype == torch.bfloat16
    assert stored["base_model.model.model.norm.weight"].dtype == torch.float32


# ---- what is taken -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "modules"),
    [
        (("--include", "attn"), {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (("--include", "attn", "--exclude", "*.k_proj"), {"q_proj", "v_proj", "o_proj"}),
        (("--include", "mlp.down"), {"down_proj"}),
        (("--include", f"{Q}", "--include", "up_proj"), {"q_proj", "up_proj"}),
        (("--include", "layers.0.self_attn.[qk]_proj"), {"q_proj", "k_proj"}),
    ],
)
def test_modules_are_chosen_by_name_pattern_and_role(
    words: tuple[str, ...], modules: set[str], cli: Cli
) -> None:
    tuned({})
    outcome = cli("extract-lora", "tuned", "base", "adapter", *words)
    assert outcome.code == 0, outcome.err
    assert {name.rpartition(".")[2] for name in ranks()} == modules
    assert config()["modules_to_save"] is None


def test_a_module_whose_name_ends_another_is_named_by_an_expression(cli: Cli) -> None:
    from mergecore_plugins.lora.extract_lora.adapter_config import _targets

    assert _targets(["layers.0.q"], ["layers.0.q", "layers.1.q"]) == ["layers.0.q"]
    assert _targets(["layers.0.q"], ["layers.0.q", "other.layers.0.q"]) == r"layers\.0\.q"


HINTS = {
    "q_prj": "names are matched from their end; *, ? and [] make a pattern",
    "norm": "include more, or leave 'exclude' out",
}


# ---- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--include", "q_prj"),
            "'include': no module of the fine-tune is called 'q_prj', or has that role; did you",
        ),
        (("--rank-pattern", "x.*=3"), "'rank_pattern': no module of the fine-tune is called 'x.*'"),
        (("--rank-pattern", "q_proj"), "a pattern and a number are expected, such as '*.q_proj=64'"),
        (("--rank", "0"), "rank"),
        (("--rank", "many"), "rank"),
        (("--include", "norm"), "no weight is left to factor, and PEFT has no adapters without any"),
        (("--shard-size", "1GB"), "the output writer 'peft' has no parameter 'shard_size'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(words: tuple[str, ...], told: str, cli: Cli) -> None:
    tuned({})
    outcome = cli("extract-lora", "tuned", "base", "adapter", *words)
    assert outcome.code == 2
    assert told in outcome.err
    if hint := HINTS.get(words[1]):
        assert f"Hint: {hint}" in outcome.err
    assert not Path("adapter").exists()


def test_models_that_do_not_belong_together_are_refused(cli: Cli) -> None:
    tuned({})
    write_checkpoint(
        Path("other"), {f"encoder.{i}.weight": torch.ones(4, 4) for i in range(9)}, {"model_type": "x"}
    )
    outcome = cli("extract-lora", "tuned", "other", "adapter")
    assert outcome.code == 3
    assert "tuned is not a fine-tune of other, which has no 'lm_head.weight'" in outcome.err
    assert "Hint: name the model that the fine-tune was trained from" in outcome.err
    grown = {name: torch.cat([one, one]) if "up_proj" in name else one for name, one in llama(1).items()}
    write_checkpoint(Path("grown"), grown, llama_config(1))
    outcome = cli("extract-lora", "tuned", "grown", "adapter")
    assert "shapes differ for 'model.layers.0.mlp.up_proj.weight': tuned [6, 4], grown [12, 4]" in outcome.err
    assert "a fine-tune has the shapes of its base: name the one that it was trained from" in outcome.err
    half = {name: one.to(torch.int8) if "up_proj" in name else one for name, one in llama(1).items()}
    write_checkpoint(Path("half"), half, llama_config(1))
    outcome = cli("extract-lora", "half", "half", "adapter")
    assert "'model.layers.0.mlp.up_proj.weight' is I8: its change has no singular values" in outcome.err
    assert "Hint: use the model before quantisation" in outcome.err


# ---- the same bytes ----------------------------------------------------------------------------------------


def content(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_threads_and_processes_make_the_same_bytes(cli: Cli) -> None:
    wide()
    for out, words in {
        "one": ["-j", "1"],
        "two": ["-j", "2"],
        "less": ["-j", "2", "--max-memory", "300MB"],
    }.items():
        outcome = cli("extract-lora", "tuned", "base", out, "--rank", "16", *words)
        assert outcome.code == 0, outcome.err
    assert content("one") == content("two") == content("less")


KILLED = """
import os, signal, sys
import mergecore
from mergecore.output.storages import folder
folder.COMMIT_BYTES = 0  # every step is journaled at once

def kill(event):
    if getattr(event, "done", 0) >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

document = {"extract_lora": {"finetuned": "tuned", "base": "base", "rank": 8, "embeddings": "lora",
    "only_linear": False, "method": "auto", "dtype": "float32"}, "seed": 0}
mergecore.merge(document, "out", run_options=mergecore.RunOptions(mode=sys.argv[2], threads=2), progress=kill)
"""


def test_killed_at_any_step_it_goes_on_to_the_same_bytes(cli: Cli) -> None:
    wide()
    assert cli("extract-lora", "tuned", "base", "whole", "--rank", "8").code == 0
    for done, mode in (("4", "new"), ("12", "resume")):
        killed = subprocess.run([sys.executable, "-c", KILLED, done, mode], check=False)
        assert killed.returncode == -9
    outcome = cli("extract-lora", "tuned", "base", "out", "--rank", "8", "--resume")
    assert outcome.code == 0, outcome.err
    assert content("out") == content("whole")
