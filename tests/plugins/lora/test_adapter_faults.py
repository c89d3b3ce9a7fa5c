"""Models with adapters in configs: every reason to refuse an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_configs import UP, Q, assert_refused, factors, merged, write_adapter
from fixture_types import Cli
from safetensors.torch import save_file
from tiny import HIDDEN
from torch import Tensor

import mergecore
from mergecore.errors import MergecoreError, Problems
from mergecore.types import Stored, TensorInfo
from mergecore_plugins.lora.config import AdapterConfig
from mergecore_plugins.lora.fitting import fit
from mergecore_plugins.lora.names import AdapterTensor, Use

pytestmark = pytest.mark.usefixtures("folder")


def without(word: str) -> dict[str, Tensor]:
    return {name: one for name, one in factors().items() if word not in name}


def test_an_adapter_without_a_factor_is_refused() -> None:
    write_adapter(Path("ad"), without("q_proj.lora_B"))
    assert_refused("E250", rf"ad: '{Q}' has no lora_B\. Hint: copy the adapter again")


def test_a_rank_that_the_weights_do_not_have_is_refused() -> None:
    write_adapter(Path("ad"), r=3)
    assert_refused(
        "E250",
        rf"ad: '{Q}': A \[2, 4\] and B \[4, 2\] are not of rank 3, which adapter_config\.json.*must match the weights",
    )


def test_a_truncated_adapter_is_refused() -> None:
    path = Path("ad/adapter_model.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    assert_refused("E206", "ad/adapter_model.safetensors: ")


def test_a_base_that_only_the_adapter_names_must_be_there() -> None:
    write_adapter(Path("ad"), base_model_name_or_path="far")
    assert_refused(
        "E701",
        r"'ad' names 'far' as its base, which is not there: .*Hint: name the place of the base: 'BASE\+ad'",
        {"adapter": "ad"},
    )


def test_an_old_adapter_is_read_without_unpickling() -> None:
    wanted = merged("base+ad")
    Path("ad/adapter_model.safetensors").unlink()
    torch.save(factors(), "ad/adapter_model.bin")
    made = merged("base+ad")
    assert all(torch.equal(made[name], wanted[name]) for name in wanted)


def test_a_pickle_that_runs_something_is_refused_and_not_run() -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return Path.touch, (Path("HIT"),)

    Path("ad/adapter_model.safetensors").unlink()
    torch.save({**factors(), "x": Runs()}, "ad/adapter_model.bin")
    with pytest.raises(
        MergecoreError, match=r"ad/adapter_model\.bin: the pickle asks for '[\w.]+', which"
    ) as caught:
        merged("base+ad")
    assert (caught.value.code, caught.value.exit_code) == ("E304", 4)
    assert not Path("HIT").exists()


def test_an_adapter_without_weights_is_refused() -> None:
    Path("ad/adapter_model.safetensors").unlink()
    assert_refused("E250", "ad: the adapter has no adapter_model.safetensors")


def test_a_model_in_place_of_an_adapter_is_refused() -> None:
    assert_refused(
        "E250",
        r"other: not an adapter: there is no adapter_config\.json\. "
        r"Hint: an adapter belongs here: after '\+', or after the BASE of a command",
        "base+other",
    )


def test_an_adapter_in_place_of_a_model_is_refused() -> None:
    assert_refused("E201", r"ad: a PEFT adapter of 'base', not a model\. Hint: write 'base\+ad', or", "ad")


def test_an_adapter_that_names_no_base_needs_one() -> None:
    write_adapter(Path("ad"), base_model_name_or_path=None)
    assert_refused(
        "E250", r"'ad': the adapter does not name its base\. Hint: write 'BASE\+ad'", {"adapter": "ad"}
    )


def test_a_base_that_is_not_there_is_named() -> None:
    write_adapter(Path("ad"), base_model_name_or_path="nobody/nothing")
    with pytest.raises(MergecoreError, match="nobody/nothing"):
        mergecore.plan(
            {"merge_method": "passthrough", "models": [{"model": {"adapter": "ad"}}]},
            options=mergecore.PlanOptions(offline=True),
        )


def test_an_adapter_of_other_modules_is_refused() -> None:
    renamed = {name.replace("self_attn", "attention"): one for name, one in factors().items()}
    write_adapter(Path("ad"), renamed)
    assert_refused(
        "E252", r"ad: the base has no 'model\.layers\.0\.attention\.q_proj\.weight'\. Hint: it belongs"
    )


def test_an_adapter_of_another_size_is_refused() -> None:
    wide = {name: torch.cat([one, one], dim=1 if "_A" in name else 0) for name, one in factors().items()}
    write_adapter(Path("ad"), wide)
    assert_refused("E252", rf"ad: the adapter was trained on '{Q}\.weight' \[8, 8\], the base has \[4, 4\]")


def test_factors_of_a_convolution_with_groups_are_refused() -> None:
    """PEFT's A takes all channels and its B those of one group: the product is a convolution without groups."""
    Path("convolution").mkdir()
    save_file({"conv.weight": torch.ones(8, 2, 3, 3)}, "convolution/model.safetensors")
    saved = {"lora_A": torch.ones(4, 4, 3, 3), "lora_B": torch.ones(8, 2, 1, 1)}
    names = {f"base_model.model.conv.{word}.weight": one for word, one in saved.items()}
    write_adapter(Path("ad"), names, r=4)
    told = r"'conv\.weight' is a convolution with 2 groups, and the factors join them: no weight of it does the same"
    assert_refused("E251", rf"{told}\. Hint: load the adapter with PEFT beside the model", "convolution+ad")


def test_two_names_of_one_factor_are_refused() -> None:
    name = f"base_model.model.{Q}.lora_A.weight"
    again = {name.removeprefix("base_model.model."): factors()[name]}
    write_adapter(Path("ad"), factors() | again)
    assert_refused(
        "E250", rf"two tensors are the lora_A of '{Q}': '.*', '.*'\. Hint: remove one of them from the file"
    )


def test_another_kind_of_adapter_is_refused_by_name() -> None:
    write_adapter(Path("ad"), peft_type="FANCY")
    assert_refused("E251", r"ad/adapter_config\.json: adapters of the kind FANCY are not supported")


def test_a_trained_bias_needs_a_bias_in_the_base() -> None:
    bias = {f"base_model.model.{Q}.lora_B.bias": torch.ones(HIDDEN)}
    write_adapter(Path("ad"), factors() | bias, lora_bias=True)
    assert_refused("E252", rf"the trained bias of '{Q}' has no place: .*Hint: leave 'lora_bias' out when you")


def test_as_many_rows_of_tokens_are_needed_as_are_named() -> None:
    rows = {"base_model.model.model.embed_tokens.trainable_tokens_delta": torch.ones(2, HIDDEN)}
    write_adapter(Path("ad"), factors() | rows, trainable_token_indices=[1, 2, 3])
    told = rf"\[2, {HIDDEN}\] were trained, and 'trainable_token_indices' names 3 rows"
    assert_refused("E250", told)


def test_a_magnitude_is_for_dora_only() -> None:
    write_adapter(Path("ad"), factors() | {f"base_model.model.{Q}.lora_magnitude_vector": torch.ones(4)})
    assert_refused("E250", rf"ad: '{Q}' has a lora_magnitude_vector, and 'use_dora' is not set")


def test_there_is_a_parameter_for_every_adapter_of_a_module() -> None:
    prefix = "base_model.model.model.layers.0.mlp"
    inner = {f"{prefix}.base_layer.lora_{one}.weight": torch.ones(2, 2) for one in "AB"}
    outer = {f"{prefix}.lora_{one}.weight": torch.ones(2, 2) for one in "AB"}
    write_adapter(Path("ad"), inner | outer, target_parameters=["mlp.w"])
    assert_refused("E250", "'model.layers.0.mlp' has more adapters than 'target_parameters' names")


def test_a_source_of_adapters_is_needed(cli: Cli) -> None:
    Path("c.yml").write_text("merge_method: passthrough\nmodels: [{model: base+ad}]\n")
    outcome = cli("merge", "c.yml", "out", "--no-plugin", "adapters")
    assert outcome.code == 3
    assert "'base+ad': no installed plugin opens a model with an adapter" in outcome.err


def test_experts_that_are_cut_in_columns_cannot_be_placed() -> None:
    """A layout that begins an expert within a row of the stacked tensor is nobody's; it is refused."""
    pieces = {"one": [(0, "experts.w", 3, 12)]}
    a, b, one = (
        TensorInfo(name, Stored(name, "F32", shape, Path(), 0))
        for name, shape in (("a", (4, 6)), ("b", (4, 4)), ("one", (2, 6)))
    )
    parts = [AdapterTensor("experts", Use.A, a), AdapterTensor("experts", Use.B, b)]
    config = AdapterConfig("LORA", rank=2, alpha=2, target_parameters=("experts.w",))
    with pytest.raises(
        MergecoreError,
        match=r"is not stored as it was when the adapter was trained.*merge it with PEFT, and name the",
    ):
        fit(parts, config, {"one": one}, {}, lambda shapes: pieces, "ad")


def test_a_nan_is_found_before_anything_is_written() -> None:
    tensors = factors()
    tensors[f"base_model.model.{UP}.lora_B.weight"][1, 1] = torch.nan
    write_adapter(Path("ad"), tensors)
    assert_refused("E234", rf"tensor 'base_model\.model\.{UP}\.lora_B\.weight': 1 value is not finite")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    write_adapter(Path("ad"), without("q_proj.lora_B") | {"x.lora_A.weight": torch.ones(2, 3)})
    write_adapter(Path("ad2"), use_qalora=True)
    with pytest.raises(Problems) as caught:
        merged("base+ad", "other+ad2")
    told = str(caught.value)
    assert "has no lora_B" in told
    assert "'x' has no lora_B" in told
    assert "QALoRA" in told
