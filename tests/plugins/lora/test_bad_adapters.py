"""Every damaged adapter is refused at the command line with one clear error, and nothing is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli
from safetensors.torch import save_file
from tiny import write_llama
from torch import Tensor

Q = "model.layers.0.self_attn.q_proj"
A, B = f"base_model.model.{Q}.lora_A.weight", f"base_model.model.{Q}.lora_B.weight"
WEIGHTS, CONFIG = Path("ad/adapter_model.safetensors"), Path("ad/adapter_config.json")


def factors(rank: int = 2) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return {A: torch.randn(rank, 4, generator=drawn), B: torch.randn(4, rank, generator=drawn)}


def write(tensors: dict[str, Tensor] | None = None, **config: Any) -> None:
    WEIGHTS.parent.mkdir(exist_ok=True)
    save_file(factors() if tensors is None else tensors, WEIGHTS)
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "base", **config}
    CONFIG.write_text(json.dumps(values))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_llama(Path("base"), 2, seed=1)
    write()


def set_to(name: str, number: float) -> Callable[[], None]:
    def change() -> None:
        tensors = factors()
        tensors[name][1, 0] = number
        write(tensors)

    return change


def as_bin(content: Any) -> Callable[[], None]:
    """The weights as an old adapter has them: a pickle, or bytes that are none."""

    def change() -> None:
        WEIGHTS.unlink()
        path = WEIGHTS.with_name("adapter_model.bin")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)

    return change


class Runs:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("HIT"),)


def renamed(old: str, new: str, **config: Any) -> Callable[[], None]:
    return lambda: write({name.replace(old, new): one for name, one in factors().items()}, **config)


DAMAGED: dict[str, tuple[Callable[[], object], str]] = {
    "truncated": (
        lambda: WEIGHTS.write_bytes(WEIGHTS.read_bytes()[:-5]),
        r"E206: ad/adapter_model\.safetensors: truncated: expected \d+ bytes, found \d+ \(5 missing\)",
    ),
    "truncated in its header": (
        lambda: WEIGHTS.write_bytes(WEIGHTS.read_bytes()[:20]),
        r"E202: ad/adapter_model\.safetensors: header length \d+, but the file has only 20 bytes",
    ),
    "empty": (lambda: WEIGHTS.write_bytes(b""), r"E202: ad/adapter_model\.safetensors: empty file"),
    "without tensors": (lambda: write({}), r"E201: ad/adapter_model\.safetensors: contains no tensors"),
    "without weights": (WEIGHTS.unlink, r"E250: ad: the adapter has no adapter_model\.safetensors"),
    "a pointer of git-LFS": (
        lambda: WEIGHTS.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 9\n"),
        r"E202: ad/adapter_model\.safetensors: not a safetensors file but a git-LFS pointer",
    ),
    "without B": (lambda: write({A: factors()[A]}), rf"E250: ad: '{Q}' has no lora_B"),
    "without A": (lambda: write({B: factors()[B]}), rf"E250: ad: '{Q}' has no lora_A"),
    "another rank": (
        lambda: write(r=3),
        rf"E250: ad: '{Q}': A \[2, 4\] and B \[4, 2\] are not of rank 3, which adapter_config\.json gives",
    ),
    "another rank by pattern": (lambda: write(rank_pattern={"q_proj": 4}), r"E250: ad: .* not of rank 4"),
    "rank 0": (lambda: write(r=0), r"E250: ad/adapter_config\.json: 'r' is 0; a whole number above 0"),
    "rank 0 of the weights": (
        lambda: write(factors(0)),
        rf"E250: ad: '{Q}': A \[0, 4\] and B \[4, 0\] are not of rank 2",
    ),
    "rank 0 by pattern": (
        lambda: write(rank_pattern={"q_proj": 0}),
        r"E250: ad/adapter_config\.json: 'rank_pattern: q_proj' is 0",
    ),
    "factors of another shape": (
        lambda: write({name: one.flatten() for name, one in factors().items()}),
        rf"E250: ad: '{Q}': A \[8\] and B \[8\] are not of rank 2",
    ),
    "whole numbers": (
        lambda: write({**factors(), A: factors()[A].int()}),
        rf"E250: ad: '{re.escape(A)}' is I32, and what was trained is a floating-point number\. Hint: copy the adapter",
    ),
    "an unknown kind": (
        lambda: write(peft_type="FANCY"),
        r"E251: ad/adapter_config\.json: adapters of the kind FANCY are not",
    ),
    "without a config": (CONFIG.unlink, r"E250: ad: not an adapter: there is no adapter_config\.json"),
    "a config that is no JSON": (
        lambda: CONFIG.write_text("{"),
        r"E250: ad/adapter_config\.json: not valid JSON",
    ),
    "NaN in its config": (
        lambda: CONFIG.write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": NaN}'),
        r"E250: ad/adapter_config\.json: NaN is not JSON",
    ),
    "NaN": (set_to(A, float("nan")), rf"E234: base\+ad: tensor '{re.escape(A)}': 1 value is not finite"),
    "Inf": (set_to(B, float("inf")), rf"E234: base\+ad: tensor '{re.escape(B)}': 1 value is not finite"),
    "of another base": (
        renamed("self_attn", "attention"),
        r"E252: ad: the base has no 'model\.layers\.0\.attention\.q_proj\.weight'\. Hint: it belongs to another base$",
    ),
    "of another base that it names": (
        renamed("self_attn", "attention", base_model_name_or_path="org/far"),
        r"E252: ad: the base has no .*\. Hint: it belongs to another base: org/far$",
    ),
    "of a wider base": (
        lambda: write({name: torch.cat([one, one], int("_A" in name)) for name, one in factors().items()}),
        rf"E252: ad: the adapter was trained on '{Q}\.weight' \[8, 8\], the base has \[4, 4\]",
    ),
    "of more layers": (renamed("layers.0", "layers.7"), r"E252: ad: the base has no 'model\.layers\.7\."),
    "two names of one tensor": (
        lambda: write({**factors(), A.removeprefix("base_model.model."): factors()[A]}),
        rf"E250: ad: two tensors are the lora_A of '{Q}'",
    ),
    "a stranger among its tensors": (
        lambda: write({**factors(), "base_model.model.rubbish": torch.ones(3)}),
        r"E252: ad: the base has no 'rubbish'",
    ),
    "an old file that is no pickle": (
        as_bin(b"hello"),
        r"E202: ad/adapter_model\.bin: not a torch\.save file",
    ),
    "a pickle that runs something": (
        as_bin({"x": Runs()}),
        r"E304: ad/adapter_model\.bin: the pickle asks for '",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_adapter_is_refused_with_one_error_and_nothing_is_written(damage: str, cli: Cli) -> None:
    change, told = DAMAGED[damage]
    change()
    before = {path.name for path in Path().iterdir()}
    outcome = cli("merge-lora", "base", "ad", "out")
    assert outcome.code == (4 if "E304" in told else 3)  # a policy forbids what a pickle runs
    errors = [line for line in outcome.err.splitlines() if "error E" in line]
    assert len(errors) == 1
    assert re.search(f"error {told}", errors[0]), errors
    assert {path.name for path in Path().iterdir()} == before


def test_the_same_in_a_config_and_all_at_once(cli: Cli) -> None:
    write({A: factors()[A]})
    Path("ad").rename("half")
    write(r=3)
    Path("c.yml").write_text(
        "merge_method: linear\nmodels: [{model: base+ad}, {model: base+half}]\nparameters: {weight: 1}\n"
    )
    outcome = cli("merge", "c.yml", "out")
    assert outcome.code == 3
    assert "not of rank 3" in outcome.err
    assert "has no lora_B" in outcome.err
    assert not Path("out").exists()


def test_numbers_that_are_not_finite_are_merged_when_it_is_asked_for(cli: Cli) -> None:
    set_to(A, float("nan"))()
    outcome = cli("merge-lora", "base", "ad", "out", "--allow-nonfinite")
    assert outcome.code == 0, outcome.err
    refused = cli("extract-lora", "out", "base", "adapter")
    assert refused.code == 3
    assert "E234" in refused.err
    refused = cli("extract-lora", "out", "base", "adapter", "--allow-nonfinite")
    assert refused.code == 3
    told = f"the change of '{Q}.weight' is not finite (NaN or Inf), so no adapter comes near it"
    assert f"{told}. Hint: the fine-tune or its base is damaged; use another" in refused.err
    refused = cli("extract-lora", "out", "base", "adapter", "--allow-nonfinite", "--exclude", Q)
    assert told in refused.err
    assert not Path("adapter").exists()
