"""Configs as people publish them: what means something is planned, and what does not is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import registry, write_llama

from mergecore.errors import MergecoreError, Problems
from mergecore.pipeline import plan

ACCEPTED = {
    "task vectors over slices": """
base_model: base
dtype: bfloat16
merge_method: task_arithmetic
parameters: {normalize: false}
slices:
- sources:
  - {layer_range: [0, 4], model: base}
  - {layer_range: [0, 4], model: a, parameters: {weight: 0.5}}
  - {layer_range: [0, 4], model: b, parameters: {weight: 0.5}}
""",
    "a gradient of weights, and a mask that does nothing": """
models:
  - model: base
  - model: a
    parameters: {weight: [0.22, 0.113, 0.113], density: 0.61}
  - model: b
    parameters: {weight: [0.02, .081], density: 59e-2}
merge_method: dare_ties
base_model: base
parameters:
  int8_mask: true
dtype: bfloat16
""",
    "slerp whose base is not listed": """
merge_method: slerp
base_model: a   # the other one
models: [{model: b}]
parameters: {t: 0.45}
""",
    "slerp with filters, as the examples have it": """
slices:
  - sources:
      - model: a
        layer_range: [0, 4]
      - model: b
        layer_range: ["0", "4"]
merge_method: slerp
base_model: a
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5 # everything else
dtype: float16
""",
    "everything that another method has, left from switching": """
merge_method: sce
base_model: base
models:
  - {model: a, parameters: {weight: 1.0, density: 0.9}}
  - {model: b, parameters: {weight: 1.0, density: 0.9}}
parameters: {normalize: true, int8_mask: true, rescale: true, filter_wise: false, smooth: false,
             allow_negative_weights: false, lambda: 1.0, select_topk: 0.1}
""",
    "layers of two models": """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources: [{model: b, layer_range: [2, 4]}]
""",
    "a module called default, and numbers as a dumper of YAML quotes them": """
dtype: bfloat16
merge_method: karcher
modules:
  default:
    slices:
    - sources:
      - {layer_range: [0, 4], model: a/}
      - {layer_range: [0, 4], model: ./b}
parameters: {max_iter: 9999, tol: '1e-9'}
""",
    "the result of a search": """
base_model: base
merge_method: ties
parameters: {int8_mask: 1.0, normalize: 1.0}
slices:
- sources:
  - {layer_range: [0, 2], model: a, parameters: {density: 1.0, weight: 0.5959931205508284}}
  - {layer_range: [0, 2], model: base}
- sources:
  - {layer_range: [2, 4], model: a, parameters: {density: 0.7606684307953007, weight: 0.56}}
  - {layer_range: [2, 4], model: base}
""",
    "the same factors for several slices": """
x-scaled: &scaled
  parameters:
    scale: [{filter: o_proj, value: 0.7071067812}, {value: 1.0}]
slices:
- sources: [{model: a, layer_range: [0, 1]}]
- sources: [{<<: *scaled, model: b, layer_range: [1, 4]}]
merge_method: passthrough
""",
    "a mixture": "base_model: base\ngate_mode: random\ndtype: bfloat16\nexperts:\n"
    "- {source_model: a, positive_prompts: [sums]}\n"
    "- {source_model: b, positive_prompts: [verses], negative_prompts: [sums]}\n",
    "three documents, of which each reads the one before": """
name: halves
merge_method: linear
models: [{model: base}, {model: a}]
parameters: {weight: 0.5}
---
name: turned
merge_method: slerp
base_model: halves
models: [{model: b}]
parameters: {t: 0.5}
---
merge_method: dare_ties
base_model: base
models:
- model: turned
  parameters: {density: 0.6, weight: 0.5}
- model: a
  parameters: {density: 0.8, weight: 0.5}
""",
}

REFUSED = {
    "a model and itself": (
        "merge_method: slerp\nbase_model: a\nparameters: {t: 0.5}\nslices:\n- sources:\n"
        "  - {model: a, layer_range: [0, 4]}\n  - {model: a, layer_range: [0, 4]}\n",
        "base_model 'a' is listed twice",
    ),
    "a model twice": (
        "merge_method: linear\nmodels:\n"
        "- {model: a, parameters: {weight: 0.1}}\n- {model: a, parameters: {weight: 1}}\n",
        "'a' is listed twice under 'models'",
    ),
    "a base that no slice has": (
        "merge_method: slerp\nbase_model: base\nparameters: {t: 0.5}\nslices:\n- sources:\n"
        "  - {model: a, layer_range: [0, 4]}\n  - {model: b, layer_range: [0, 4]}\n",
        "slerp needs base_model 'base' among the sources of each slice",
    ),
    "a method for each slice": (
        "merge_method: linear\nslices:\n- sources: [{model: a, layer_range: [0, 4]}]\n  merge_method: slerp\n",
        "unknown key 'merge_method' in a slice. Hint: write 'merge_method' at the top level",
    ),
    "a weight beside the model": (
        "merge_method: breadcrumbs\nbase_model: base\nmodels: [{model: a, weight: 1.0}]\nparameters: {density: 0.2}\n",
        "it is a parameter of breadcrumbs. Hint: write it under 'parameters:'",
    ),
    "chances outside of 0 and 1": (
        "merge_method: della\nbase_model: base\nmodels: [{model: a, parameters: {density: 0.25, weight: 0.6}}]\n"
        "parameters: {epsilon: 0.25}\n",
        "epsilon 0.25 with density 0.25 gives keep probabilities from 0 to 0.5",
    ),
    "a method of somebody's own": (
        "merge_method: magic\nbase_model: base\nmodels: [{model: a}]\n",
        "merge method 'magic': no installed plugin provides it",
    ),
    "a parameter of nobody": (
        "merge_method: nuslerp\nmodels: [{model: a}, {model: b}]\n"
        "parameters: {weight: 1, geodesic: true, lambda: 0.7}\n",
        "nuslerp has no parameter 'geodesic'",
    ),
    "an adapter": (
        "merge_method: model_stock\nbase_model: a+./lora\nmodels: [{model: b+./lora}, {model: a}]\n",
        "'./lora': no such directory",
    ),
    "a search": ("genome:\n  models: [a, b]\n  merge_method: linear\ntasks: [{weight: 1}]\n", "mergekit-evolve"),
    "a mixture": ("base_model: a\ngate_mode: random\n", "'experts' is missing"),
    "a key twice": ("merge_method: linear\ndtype: float16\ndtype: float32\n", "'dtype' occurs twice"),
    "tabs": ("merge_method: linear\nmodels:\n\t- model: a\n", "indent with spaces, not with tabs"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / name, 4, seed=seed)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_what_means_something_is_planned(name: str, mark: str, ends: str) -> None:
    Path("c.yml").write_bytes((mark + ACCEPTED[name].replace("\n", ends)).encode())
    assert plan("c.yml", registry=registry()).steps


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_is_refused_with_its_reason(name: str) -> None:
    text, message = REFUSED[name]
    Path("c.yml").write_text(text, encoding="utf-8")
    with pytest.raises(MergecoreError) as caught:
        plan("c.yml", registry=registry())
    errors = caught.value.errors if isinstance(caught.value, Problems) else [caught.value]
    assert message in "\n".join(map(str, errors))
    assert all(error.code != "E001" for error in errors)
