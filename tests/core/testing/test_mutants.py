"""Plugins that break one rule of their kind each: the kit finds it, by the property that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import registry

from mergecore import ConfigError, MoeFamily, OutputWriter, TokenizerStrategy
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.testing import check_moe_family, check_tokenizer_strategy, check_writer, tiny_model
from mergecore.testing.findings import survey
from mergecore.testing.kinds.mixtures import MOE_FAMILY, family_case
from mergecore.testing.kinds.vocabularies import STRATEGY, strategy_case
from mergecore.testing.kinds.writers import WRITER, writer_case
from mergecore.tokenizers import is_tokenizer_file
from mergecore.types import LayoutRequest, Stored, TokenizerRequest, Vocabulary

# ---- writers -----------------------------------------------------------------------------------------------

SAFETENSORS: OutputWriter[Any] = registry().get(OutputWriter, "safetensors")
Read = Callable[[list[Stored]], list[Stored]]

READS: dict[str, tuple[Read, str]] = {
    "drops one": (lambda found: found[1:], "is not there; it is F32"),
    "drops all": (lambda found: [], "is not there; it is F32"),
    "adds one": (lambda found: [*found, replace(found[0], name="more")], "'more' of model.safetensors is F32"),
    "other dtype": (lambda found: [replace(one, dtype="BF16") for one in found], "is BF16"),
    "other offset": (
        lambda found: [replace(one, offset=one.offset + 8) for one in found],
        "at byte",
    ),
    "other shape": (
        lambda found: [replace(one, shape=tuple(reversed(one.shape))) for one in found],
        "is F32 [8, 64] at byte",
    ),
    "twice": (lambda found: [*found, found[0]], "finds a tensor of model.safetensors twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_a_writer_that_reads_back_something_else_fails(name: str) -> None:
    change, told = READS[name]
    wrong = replace(SAFETENSORS, name="wrong", read=lambda path: change(list(_read(path))))
    with writer_case(replace(SAFETENSORS, name="wrong")) as case:
        assert case.written.is_dir()  # by the right one, as a merge refuses most of the wrong ones
        case.writer = wrong
        found = {one.property: one for one in survey("writer", WRITER, case)}
    assert found["read"].outcome == "failed"
    assert told in found["read"].text


def _read(path: Path) -> Sequence[Stored]:
    assert SAFETENSORS.read is not None
    return SAFETENSORS.read(path)


def test_what_a_merge_refuses_of_a_writer_is_not_left_out() -> None:
    wrong = replace(SAFETENSORS, name="wrong", read=lambda path: list(_read(path))[1:])
    with pytest.raises(AssertionError, match=r"it raises OutputError: E508: .*is absent in the header"):
        check_writer(wrong)


def test_a_writer_that_refuses_every_model_fails() -> None:
    def refuse(request: LayoutRequest, params: object) -> Any:
        raise ConfigError("E105", "no")

    with pytest.raises(AssertionError, match="it raises ConfigError: E105: no"):
        check_writer(replace(SAFETENSORS, name="wrong", layout=refuse))


def test_config_json_is_no_file_of_weights() -> None:
    with writer_case(SAFETENSORS) as case:
        (case.written / "model.safetensors").unlink()
        assert {"config.json", MANIFEST} <= {one.name for one in case.written.iterdir()}
        [found] = [one for one in survey("writer", WRITER, case) if one.property == "write"]
    assert (found.outcome, found.text) == ("failed", "a merge with it does not write model.safetensors")


# ---- tokenizer strategies ----------------------------------------------------------------------------------

UNION: TokenizerStrategy[Any] = registry().get(TokenizerStrategy, "union")


def changed(change: Callable[[Vocabulary], Vocabulary]) -> TokenizerStrategy[Any]:
    return replace(UNION, name="wrong", build=lambda asked, params: change(UNION.build(asked, params)))


def without_rows_of(tokens: Sequence[str]) -> Callable[[Vocabulary], Vocabulary]:
    """A vocabulary in which no model has a row for some tokens; for all of them without any."""

    def change(made: Vocabulary) -> Vocabulary:
        rows = []
        for one in made.rows:
            assert one is not None
            numbers = np.array(one)
            numbers[[made.ids[token] for token in tokens or made.ids]] = -1
            rows.append(numbers)
        return replace(made, rows=tuple(rows))

    return change


@pytest.mark.parametrize("tokens", [(), ("a",), ("<one>",), ("<three>",)])
def test_a_strategy_that_gives_a_token_no_row_though_a_model_has_one_fails(tokens: Sequence[str]) -> None:
    with pytest.raises(AssertionError, match=r"the token '.*' gets no row of .*, where it has row \d+"):
        check_tokenizer_strategy(changed(without_rows_of(tokens)))


def test_a_token_beyond_the_rows_of_the_tensors_has_none(tmp_path: Path) -> None:
    short = tiny_model(tmp_path / "short", tokens=["<far>"], config={"vocab_size": 35})
    whole = tiny_model(tmp_path / "whole", seed=1)
    with strategy_case(UNION, [whole, short]) as case:
        assert case.request.models[1].tensors["model.embed_tokens.weight"].shape[0] == 35
        [found] = [one for one in survey("strategy", STRATEGY, case) if one.property == "tokens"]
    assert found.outcome == "passed", found.text


def test_a_strategy_that_moves_no_rows_gets_models_of_one_vocabulary() -> None:
    def files(asked: TokenizerRequest, params: object) -> Vocabulary:
        return Vocabulary({n: path for n, path in asked.models[0].side_files.items() if is_tokenizer_file(n)})

    check_tokenizer_strategy(TokenizerStrategy(name="first", build=files))


# ---- families of mixtures ----------------------------------------------------------------------------------

MIXTRAL: MoeFamily = registry().get(MoeFamily, "mixtral")
WITHOUT_DOWN = replace(
    MIXTRAL.names,
    experts={name: parts for name, parts in MIXTRAL.names.experts.items() if parts != ("down",)},
)
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "no attention": (
        {"layer": {name: own for name, own in MIXTRAL.layer.items() if "attn" not in name}},
        "it expresses none of the tiny models; .* It refuses that of type llama: .* no place for 'self_attn.k_proj",
    ),
    "refuses all": (
        {"faults": lambda mixture: ["no model pleases it"]},
        "expresses none of the tiny models; .* no model pleases it",
    ),
    "no down": ({"names": WITHOUT_DOWN}, "names.experts names the part 'down' 0 times"),
    "up twice": (
        {"names": replace(MIXTRAL.names, experts={**MIXTRAL.names.experts, "more.{expert}": ("up",)})},
        "names.experts names the part 'up' 2 times",
    ),
    "no down when fused": ({"fused": WITHOUT_DOWN}, "fused.experts names the part 'down' 0 times"),
    "no shared": ({"shared_experts": (0, None)}, "names.shared names the part 'gate' 0 times"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_that_makes_no_whole_mixture_fails(name: str) -> None:
    change, told = FAMILIES[name]
    with pytest.raises(AssertionError, match=told):
        check_moe_family(replace(MIXTRAL, **{"name": "wrong", "proved_by": "mixtral", **change}))


def test_a_family_that_refuses_the_model_it_is_given_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"it raises .*E222"):
        check_moe_family(MIXTRAL, model=tiny_model(tmp_path / "bert", "bert"))


def test_every_matrix_of_an_expert_is_looked_for_in_the_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergecore.plugins.loading.fault_of", lambda value: None)  # which refuses it before
    wrong = replace(MIXTRAL, name="wrong", proved_by="mixtral", names=WITHOUT_DOWN)
    with family_case(wrong) as case:
        found = {one.property: one for one in survey("family", MOE_FAMILY, case)}
    assert found["whole"].text == (
        "the part 'down' of expert 0 in layer 0 is nowhere in the mixture; name it in `names`"
    )
