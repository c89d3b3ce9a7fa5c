"""Models with adapters wherever a model can stand, and every way to run what is made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli
from peft import LoraConfig
from peft_adapters import Pair, merged_by_peft, mixtral, tensors_of, write_pair
from safetensors.torch import save_file
from tiny import llama, llama_config, read_tensors, write_checkpoint
from tiny_tokenizers import TOKENS, tokenizer_json
from tiny_transplant import rows, write
from torch import Tensor

import mergecore
from mergecore import PlanOptions, RunOptions
from mergecore.types import Json

pytestmark = pytest.mark.filterwarnings("ignore")
"""PEFT and transformers warn of each other."""

EMBED, Q = "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def content(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def write_adapter(
    folder: str, base: str, seed: int = 5, tokens: int | None = None, rank: int = 2
) -> dict[str, Tensor]:
    """An adapter of a projection of every layer, and of the embeddings where `tokens` is given; its changes."""
    tensors, drawn = read_tensors(Path(base)), torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    changes = {}
    for name in (one for one in tensors if one.endswith("q_proj.weight")):
        a = torch.randn(rank, tensors[name].shape[1], generator=drawn)
        b = torch.randn(tensors[name].shape[0], rank, generator=drawn)
        module = f"base_model.model.{name.removesuffix('.weight')}"
        made |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        changes[name] = b @ a
    if tokens is not None:
        a, b = torch.randn(rank, tokens, generator=drawn), torch.randn(4, rank, generator=drawn)
        module = "base_model.model.model.embed_tokens"
        made |= {f"{module}.lora_embedding_A": a, f"{module}.lora_embedding_B": b}
        changes[EMBED] = (b @ a).T
    Path(folder).mkdir(parents=True)
    save_file(made, Path(folder) / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "base_model_name_or_path": base}
    Path(folder, "adapter_config.json").write_text(json.dumps(config))
    return changes


def plus(tensors: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: one + changes[name] if name in changes else one for name, one in tensors.items()}


# ---- ways to run it ----------------------------------------------------------------------------------------


def test_processes_make_the_bytes_of_threads(cli: Cli) -> None:
    for seed, name in enumerate(("base", "tuned")):
        write_checkpoint(Path(name), llama(2, seed=seed), llama_config(2))
    write_adapter("ad", "base")
    for words in (["merge-lora", "base", "ad"], ["extract-lora", "tuned", "base"]):
        assert cli(*words, "threads", "--overwrite").code == 0
        outcome = cli(*words, "processes", "--overwrite", "--executor", "processes", "-j", "2")
        assert outcome.code == 0, outcome.err
        assert content("threads") == content("processes")


def test_an_interrupted_extraction_is_checked_again(cli: Cli) -> None:
    """What was written is read again with `--recheck`, and written again where it is not what was journaled."""
    for seed, name in enumerate(("base", "tuned")):
        write_checkpoint(Path(name), llama(1, seed=seed), llama_config(1))
    document: dict[str, Json] = {"extract_lora": {"finetuned": "tuned", "base": "base", "rank": 2}}
    wanted = content(str(mergecore.merge(document, "whole")))
    seen = 0

    class StoppedError(Exception):
        pass

    def stop(event: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 12:
            raise StoppedError

    with pytest.raises(StoppedError):
        mergecore.merge(document, "out", run_options=RunOptions(threads=1), progress=stop)
    Path("c.yml").write_text(json.dumps(document))
    outcome = cli("merge", "c.yml", "out", "--resume", "--recheck")
    assert outcome.code == 0, outcome.err
    assert content("out") == wanted


@pytest.mark.parametrize(
    "file", ["adapter_model.safetensors", "extraction.safetensors", "adapter_config.json"]
)
def test_verify_finds_a_changed_byte_of_an_extraction(file: str, cli: Cli) -> None:
    for seed, name in enumerate(("base", "tuned")):
        write_checkpoint(Path(name), llama(1, seed=seed), llama_config(1))
    assert cli("extract-lora", "tuned", "base", "adapter", "--rank", "2").code == 0
    assert cli("verify", "adapter").code == 0
    held = bytearray(Path("adapter", file).read_bytes())
    held[-3] ^= 1
    Path("adapter", file).write_bytes(held)
    outcome = cli("verify", "adapter")
    assert outcome.code == 6
    assert file in outcome.err


# ---- places in which a model can stand ---------------------------------------------------------------------


def by_layer(tensors: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    start = f"model.layers.{layer}."
    return {name.removeprefix(start): one for name, one in tensors.items() if name.startswith(start)}


def experts(seed: int) -> Pair:
    """A Mixtral with an adapter of its experts, which are single tensors on disk."""
    targets = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    config = LoraConfig(r=2 + seed, lora_alpha=5, target_modules=["q_proj"], target_parameters=targets)
    return write_pair(Path(f"pair-{seed}"), mixtral, config)


def test_a_stack_takes_layers_of_experts_with_and_without_their_adapter() -> None:
    pair = experts(0)
    wanted, base = merged_by_peft(pair, Path("peft")), tensors_of(pair.base)
    slices: Json = [
        {"sources": [{"model": pair.reference, "layer_range": [1, 2]}]},
        {"sources": [{"model": str(pair.base), "layer_range": [0, 2]}]},
        {"sources": [{"model": pair.reference, "layer_range": [0, 1]}]},
    ]
    made = tensors_of(mergecore.merge({"merge_method": "passthrough", "slices": slices}, "stack"))
    origins = [(wanted, 1), (base, 0), (base, 1), (wanted, 0)]
    for layer, (source, number) in enumerate(origins):
        found, expected = by_layer(made, layer), by_layer(source, number)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected), layer


def test_slices_are_averaged_of_experts_with_two_adapters() -> None:
    one, two = experts(0), experts(1)
    wanted = [merged_by_peft(pair, Path(f"peft-{i}")) for i, pair in enumerate((one, two))]
    sources: Json = [{"model": pair.reference, "layer_range": [0, 2]} for pair in (one, two)]
    config: dict[str, Json] = {
        "merge_method": "linear",
        "slices": [{"sources": sources}],
        "parameters": {"weight": 0.5},
    }
    made = tensors_of(mergecore.merge(config, "mean"))
    for name in wanted[0]:
        mean = (wanted[0][name].double() + wanted[1][name].double()) / 2
        assert torch.allclose(made[name].double(), mean, rtol=0, atol=1e-7), name


@pytest.mark.parametrize("side", ["model", "donor"])
def test_a_vocabulary_is_transplanted_between_models_with_adapters(side: str) -> None:
    """The rows are those that a model gives into which the adapter was merged before."""
    write(Path("mine"), "BPE", rows(len(TOKENS["BPE"]), 1), rows(len(TOKENS["BPE"]), 2))
    write(Path("theirs"), "Unigram", rows(18, 3), rows(18, 4))
    base = "mine" if side == "model" else "theirs"
    write_adapter("ad", base, tokens=len(read_tensors(Path(base))[EMBED]))
    mergecore.merge({"merge_method": "passthrough", "models": [{"model": f"{base}+ad"}]}, "before")

    def transplanted(model: str, out: str) -> dict[str, Tensor]:
        pair = {"model": "mine", "donor": "theirs", side: model}
        document: dict[str, Json] = {"transplant": {**pair, "method": "omp", "k": 4}}
        return read_tensors(mergecore.merge(document, out))

    at_once, in_turn = transplanted(f"{base}+ad", "at-once"), transplanted("before", "in-turn")
    assert at_once.keys() == in_turn.keys()
    assert all(torch.allclose(at_once[name], in_turn[name], rtol=0, atol=1e-5) for name in in_turn)
    plain = transplanted(base, "plain")
    assert any(not torch.allclose(plain[name], in_turn[name], rtol=0, atol=1e-3) for name in in_turn)


def test_a_union_of_vocabularies_takes_the_tokens_and_rows_that_an_adapter_brings() -> None:
    """The adapter was trained with two tokens more than its base, and has its own tokenizer."""
    count = len(TOKENS["BPE"])
    for seed, name in enumerate(("base", "other")):
        write(Path(name), "BPE", rows(count, seed), rows(count, seed + 2))
    trained = torch.arange(4.0 * (count + 2)).view(count + 2, 4)
    changes = write_adapter("ad", "base")
    held = read_adapter("ad") | {
        f"base_model.model.{name}": trained + i for i, name in enumerate((EMBED, "lm_head.weight"))
    }
    save_file(held, "ad/adapter_model.safetensors")
    config = json.loads(Path("ad/adapter_config.json").read_text())
    Path("ad/adapter_config.json").write_text(
        json.dumps({**config, "modules_to_save": ["embed_tokens", "lm_head"]})
    )
    tokenizer = tokenizer_json("BPE", added=["<x>", "<y>"])
    Path("ad/tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    document: dict[str, Json] = {
        "merge_method": "linear",
        "base_model": "other",
        "models": [{"model": "other"}, {"model": "base+ad"}],
        "parameters": {"weight": 0.5},
        "tokenizer": {"source": "union"},
    }
    made, other = read_tensors(mergecore.merge(document, "out")), read_tensors(Path("other"))
    assert torch.allclose(made[EMBED][:count], (other[EMBED] + trained[:count]) / 2)
    assert torch.equal(made[EMBED][count : count + 2], trained[count:])  # only the adapter has these tokens
    wanted = (plus(read_tensors(Path("base")), changes)[f"{Q}.weight"] + other[f"{Q}.weight"]) / 2
    assert torch.allclose(made[f"{Q}.weight"], wanted, atol=1e-6)
    named = json.loads(Path("out/tokenizer.json").read_text())["added_tokens"]
    assert {"<x>", "<y>"} <= {one["content"] for one in named}


def read_adapter(folder: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(Path(folder) / "adapter_model.safetensors")


# ---- on the hub --------------------------------------------------------------------------------------------

FIRST, SECOND = "1" * 40, "2" * 40


def cached(cache: Path, repo: str, folder: Path, commit: str, ref: str) -> None:
    """Put the files of a folder into the cache, as huggingface_hub does."""
    home = cache / f"models--{repo.replace('/', '--')}"
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / ref).write_text(commit)
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        blob = home / "blobs" / sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """In the cache: a base, and an adapter of it in two revisions; the changes of these."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    write_checkpoint(Path("org-base"), llama(2, seed=1), llama_config(2))
    cached(tmp_path / "cache", "org/base", Path("org-base"), FIRST, "main")
    changes = []
    for seed, (commit, ref) in enumerate(((FIRST, "v1"), (SECOND, "main"))):
        changes.append(write_adapter(f"ad-{seed}", "org-base", seed=seed))
        path = Path(f"ad-{seed}/adapter_config.json")
        config = {**json.loads(path.read_text()), "base_model_name_or_path": "org/base"}
        path.write_text(json.dumps(config))
        cached(tmp_path / "cache", "org/style", Path(f"ad-{seed}"), commit, ref)
    return changes


@pytest.mark.parametrize(
    ("model", "revision"),
    [
        ("org/base+org/style", 1),
        ("org/base@main+org/style@v1", 0),
        ({"model": "org/base", "adapters": [{"path": "org/style", "revision": FIRST}]}, 0),
        ({"adapter": "org/style"}, 1),
        ({"adapter": "org/style@v1"}, 0),
    ],
)
def test_an_adapter_is_named_by_its_hub_id_and_revision(
    model: Json, revision: int, hub: list[dict[str, Tensor]]
) -> None:
    config: dict[str, Json] = {"merge_method": "passthrough", "models": [{"model": model}]}
    made = read_tensors(mergecore.merge(config, "out", plan_options=PlanOptions(offline=True)))
    wanted = plus(llama(2, seed=1), hub[revision])
    assert all(torch.allclose(made[name], wanted[name], rtol=0, atol=2e-6) for name in wanted)
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())["models"][0]
    assert [one["revision"] for one in manifest["parts"]] == [(FIRST, SECOND)[revision]]
    card = Path("out/README.md").read_text()
    assert "base_model:\n- org/base\n- org/style\nbase_model_relation: merge\n" in card
    assert "* `org/base" in card


@pytest.mark.usefixtures("hub")
def test_commands_take_hub_ids(cli: Cli) -> None:
    outcome = cli("merge-lora", "org/base", "org/style@v1", "out", "--offline")
    assert outcome.code == 0, outcome.err
    found = json.loads(cli("adapter", "show", "org/style", "--offline", "--json").out)
    assert (found["base"], found["ranks"]) == ("org/base", [2])
    outcome = cli("extract-lora", "out", "org/base", "adapter", "--offline", "--rank", "2")
    assert outcome.code == 0, outcome.err
    config = json.loads(Path("adapter/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", FIRST)
    assert "base_model: org/base\nbase_model_relation: adapter\n" in Path("adapter/README.md").read_text()


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("org/base+org/nothing", "'org/nothing': no such directory, and no such model"),
        ("org/base+org/style@v9", "'org/style': no such directory, and no such model at revision 'v9'"),
        ("org/none+org/style", "'org/none': no such directory, and no such model"),
    ],
)
def test_what_the_cache_lacks_is_named_and_nothing_is_written(model: str, told: str, cli: Cli) -> None:
    base, adapter = model.split("+")
    outcome = cli("merge-lora", base, adapter, "out", "--offline")
    assert outcome.code == 3
    assert f"error E701: {told} in the hub cache (offline). Hint: " in outcome.err
    assert not Path("out").exists()
