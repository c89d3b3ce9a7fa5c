"""Documents of all kinds that read each other, against the same documents merged one after the other by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Cli
from tiny import listing, llama, llama_config, write_checkpoint
from tiny_tokenizers import tokenizer_json
from tiny_transplant import as_donor, rows
from tiny_transplant import write as write_with_tokenizer

import mergecore
from mergecore import PlanOptions

LINEAR: dict[str, Any] = {"merge_method": "linear", "parameters": {"weight": 1}}


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four Llamas with one tokenizer; `big`, with other tokens and sizes, to be transplanted from."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abcd"):
        write_checkpoint(Path(name), llama(2, seed=seed), llama_config(2, torch_dtype="float32"))
        (Path(name) / "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", list("abcdefgh"))))


def by_hand(documents: list[dict[str, Any]], out: str) -> None:
    """Each document merged by its own command; names of others stand for the folders of their results."""
    text = json.dumps(documents)
    for one in documents[:-1]:
        text = text.replace(f'"{one["name"]}"', f'"./hand-{one["name"]}"')
        text = text.replace(f'"{one["name"]}+', f'"./hand-{one["name"]}+')
        text = text.replace(f'+{one["name"]}"', f'+./hand-{one["name"]}"')
    for given, one in zip(documents, json.loads(text), strict=True):
        one.pop("name", None)
        mergecore.merge(one, f"hand-{given['name']}" if given is not documents[-1] else out)


def weights(folder: str) -> dict[str, str]:
    return {name: one for name, one in listing(Path(folder)).items() if name.endswith(".safetensors")}


def check(documents: list[dict[str, Any]], *fused: str) -> None:
    """Written, computed and by hand, the weights, config and tokenizer are the same."""
    by_hand(documents, "by-hand")
    plan = mergecore.plan(documents)
    assert [one.name for one in plan.documents if one.fused] == [*fused]
    mergecore.execute(plan, "computed")
    mergecore.merge(documents, "written", plan_options=PlanOptions(fuse="never"))
    known = listing(Path("by-hand"))
    for folder in ("computed", "written"):
        found = listing(Path(folder))
        assert found.keys() == known.keys()
        assert {name for name in known if found[name] != known[name]} <= {
            "README.md",
            "mergecore-manifest.json",
        }


def test_a_mixture_has_experts_that_documents_make() -> None:
    soup = {"name": "soup", **LINEAR, "models": [{"model": "./a"}, {"model": "./b"}]}
    experts = [{"source_model": "soup"}, {"source_model": "./c"}]
    mixture = {"base_model": "./a", "gate_mode": "random", "experts": experts, "experts_per_token": 1}
    check([soup, {**mixture, "name": "mix"}, {**LINEAR, "models": [{"model": "mix"}]}], "soup")


def test_a_mixture_of_prompts_is_made_of_a_document() -> None:
    soup = {"name": "soup", **LINEAR, "models": [{"model": "./a"}, {"model": "./b"}]}
    experts = [
        {"source_model": "soup", "positive_prompts": ["abc"]},
        {"source_model": "./c", "positive_prompts": ["hgf"]},
    ]
    mixture = {"base_model": "soup", "gate_mode": "cheap_embed", "experts": experts, "experts_per_token": 1}
    by_hand([soup, mixture], "by-hand")
    mergecore.merge([soup, mixture], "out", plan_options=PlanOptions(fuse="never"))
    assert weights("out") == weights("by-hand")


def test_an_adapter_is_extracted_of_documents_and_put_on_another() -> None:
    soup = {"name": "soup", **LINEAR, "models": [{"model": "./a"}, {"model": "./b"}]}
    adapter = {"name": "change", "extract_lora": {"finetuned": "soup", "base": "./a", "rank": 2}}
    put = {"merge_method": "passthrough", "models": [{"model": "./c+change"}]}
    check([soup, adapter, put], "soup")


def test_a_tokenizer_is_transplanted_into_a_document_and_out_of_one() -> None:
    embed, head = rows(18, seed=1), rows(18, seed=2)
    write_with_tokenizer(Path("x"), "BPE", embed, head)
    write_with_tokenizer(Path("y"), "Unigram", as_donor(embed), as_donor(head), {"unk_token": "<unk>"})
    half = {"merge_method": "passthrough", "parameters": {"scale": 0.5}}
    documents: list[dict[str, Any]] = [
        {"name": "mine", **half, "models": [{"model": "./x"}]},
        {"name": "theirs", **half, "models": [{"model": "./y"}]},
        {"name": "moved", "transplant": {"model": "mine", "donor": "theirs", "method": "mean"}},
        {**half, "models": [{"model": "moved"}]},
    ]
    check(documents, "mine", "theirs")


def test_slices_of_documents_are_stacked_and_a_merge_unites_vocabularies() -> None:
    (Path("b") / "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", list("hgfedcba"))))
    soup = {
        "name": "soup",
        **LINEAR,
        "models": [{"model": "./a"}, {"model": "./b"}],
        "tokenizer_source": "union",
    }
    slices = [
        {"sources": [{"model": "soup", "layer_range": [0, 2]}]},
        {"sources": [{"model": "./c", "layer_range": [1, 2]}]},
    ]
    stack = {"name": "stack", "merge_method": "passthrough", "slices": slices}
    last = {"merge_method": "linear", "slices": [], "parameters": {"weight": [0.2, 1.0]}, "dtype": "bfloat16"}
    sources = [{"model": "stack", "layer_range": [0, 3]}]
    check([soup, stack, {**last, "slices": [{"sources": sources}]}], "soup", "stack")


def test_documents_of_a_recipe_of_several_plans_have_their_own(
    monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    """The names that a recipe gives its plans are its own: two documents may have the same."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[3] / "third_party" / "relay")
    documents = (
        "name: x\nrelay: [./a, ./b, ./c]\n---\nname: y\nrelay: [./b, ./c, ./d]\n---\nrelay: [x, y, ./a]\n"
    )
    Path("c.yml").write_text(documents)
    for fuse in ("never", "always"):
        outcome = cli("merge", "c.yml", fuse, "--fuse", fuse)
        assert outcome.code == 0, outcome.err
    assert sorted(one.name for one in Path("never.parts").iterdir()) == [
        "leg-1",
        "x",
        "x.leg-1",
        "y",
        "y.leg-1",
    ]
    assert weights("never") == weights("always")
    told = json.loads(cli("plan", "c.yml", "--json").out)["documents"]
    assert {one["name"]: one["reads"] for one in told} == {
        "x.leg-1": [],
        "x": ["x.leg-1"],
        "y.leg-1": [],
        "y": ["y.leg-1"],
        "leg-1": ["x", "y"],
        None: ["leg-1"],
    }
    sys.modules.pop("relay", None)
