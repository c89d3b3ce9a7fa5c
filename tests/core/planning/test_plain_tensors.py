"""Tensors without a config, and folders of libraries that keep more than a transformer beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import read_config, read_tensors, registry, write_checkpoint
from torch import Tensor

from mergecore import execute, merge, plan
from mergecore.errors import MergecoreError, Problems
from mergecore.output.verify import verify_folder
from mergecore.types import Json
from mergecore.types.events import StepDone
from mergecore.types.execution import RunOptions
from mergecore.types.plans import PlanOptions


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tensors(value: float) -> dict[str, Tensor]:
    return {"head": torch.full((2, 3), value), "net.0.w": torch.full((4,), value), "steps": torch.tensor(7)}


def write(path: str, value: float) -> Path:
    """Write one file of tensors; its folder."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors(value), file)
    return file.parent


def mean(*models: str) -> dict[str, Json]:
    listed: list[Json] = [{"model": model} for model in models]
    return {"merge_method": "linear", "models": listed, "parameters": {"weight": 1}}


def merged(document: dict[str, Json], **options: Any) -> Path:
    run = RunOptions(overwrite=True)
    return merge(
        document, Path("out"), registry=registry(), plan_options=PlanOptions(**options), run_options=run
    )


def refusal(document: dict[str, Json]) -> str:
    with pytest.raises(MergecoreError) as caught:
        plan(document, registry=registry())
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    return "\n".join(f"{one.code} {one}" for one in errors)


def names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


OURS = {"README.md", "mergecore-manifest.json"}


# ---- no config ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["{}.safetensors", "./{}/model.safetensors", "./{}/weights.safetensors", "{}"]
)
def test_files_and_folders_without_a_config_are_merged_by_name(form: str) -> None:
    """The mean of 1 and 3 is 2; the output may lie beside a file that is merged."""
    models = [form.format(name) for name in ("x", "y")]
    for model, value in zip(models, (1.0, 3.0), strict=True):
        write(model if model.endswith(".safetensors") else f"{model}/model.safetensors", value)
    out = merged(mean(*models))
    found = read_tensors(out)
    assert {name: one.unique().tolist() for name, one in found.items()} == {
        "head": [2],
        "net.0.w": [2],
        "steps": [7],
    }
    assert names(out) == {"model.safetensors", *OURS}


def test_what_is_empty_is_merged_whatever_formats_it_is_stored_in() -> None:
    """No numbers to round; the format of the output is that of a tensor that has some."""
    for path, dtype in (("x", torch.float64), ("y", torch.bfloat16)):
        Path(path).mkdir()
        save_file(
            {"none": torch.zeros(0, 3, dtype=dtype), "w": torch.ones(2, dtype=dtype)}, f"{path}/x.safetensors"
        )
    found = read_tensors(merged(mean("x/x.safetensors", "y/x.safetensors")))
    assert found["none"].shape == (0, 3)
    assert {one.dtype for one in found.values()} == {torch.float64}


def test_an_output_around_or_in_place_of_a_file_that_is_merged_is_refused() -> None:
    write("in/x.safetensors", 1.0)
    made = mean("in/x.safetensors")
    for out in ("in", "in/x.safetensors"):
        with pytest.raises(MergecoreError, match=r"the output folder (contains|is) the input model"):
            merge(made, Path(out), registry=registry())


def test_a_folder_with_a_tokenizer_and_no_config_lacks_it() -> None:
    (write("x/model.safetensors", 1.0) / "tokenizer.json").write_text("{}")
    assert refusal(mean("./x")) == "E220 ./x/config.json: missing"


def test_a_pickle_without_an_archive_is_refused_with_the_command_to_convert_it() -> None:
    torch.save({"a": torch.ones(2)}, "x.pt", _use_new_zipfile_serialization=False)
    told = refusal(mean("./x.pt"))
    assert told.startswith("E303 ./x.pt: the weights are a pickle, which can run code when they are read")
    assert "sorted(glob.glob('./x.pt'))" in told
    assert told.endswith("what torch.save writes today is read without running anything, older files are not")


# ---- diffusers ---------------------------------------------------------------------------------------------


def diffusers(folder: str, value: float, **config: Json) -> Path:
    made = write(f"{folder}/diffusion_pytorch_model.safetensors", value)
    config = {"_class_name": "UNet2DModel", "_diffusers_version": "0.30.0", "sample_size": 8, **config}
    (made / "config.json").write_text(json.dumps(config))
    return made


def test_a_model_of_diffusers_keeps_its_class_and_the_name_of_its_file() -> None:
    config = read_config(diffusers("x", 1.0, _name_or_path="/home/me/x"))
    diffusers("y", 3.0)
    out = merged(mean("./x", "./y"))
    assert names(out) == {"config.json", "diffusion_pytorch_model.safetensors", *OURS}
    assert read_config(out) == {key: value for key, value in config.items() if key != "_name_or_path"}
    assert read_tensors(out)["head"].unique().tolist() == [2]


def test_shards_of_a_model_of_diffusers_have_its_index() -> None:
    diffusers("x", 1.0)
    out = merged(mean("./x"), shard_size=24)
    files = [f"diffusion_pytorch_model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    index = "diffusion_pytorch_model.safetensors.index.json"
    assert names(out) == {"config.json", index, *files, *OURS}
    assert set(json.loads((out / index).read_text())["weight_map"].values()) == set(files)


def test_a_pipeline_of_diffusers_says_which_of_its_folders_are_models() -> None:
    diffusers("pipe/unet", 1.0)
    diffusers("pipe/vae", 1.0)
    Path("pipe/model_index.json").write_text("{}")
    told = refusal(mean("./pipe"))
    assert told.startswith("E201 ./pipe: no weights found, expected model.safetensors")
    assert told.endswith("there are some in unet, vae. Hint: merge each by itself, such as ./pipe/unet")


# ---- sentence-transformers ---------------------------------------------------------------------------------

MODULES = json.dumps(
    [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
)
SENTENCES: Mapping[str, str] = {
    "modules.json": MODULES,
    "sentence_bert_config.json": '{"max_seq_length": 16}',
    "config_sentence_transformers.json": '{"similarity_fn_name": "cosine"}',
    "1_Pooling/config.json": '{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}',
}


def encoder(folder: str, noise: float) -> Path:
    """A tiny BERT as sentence-transformers saves it, without the prefix `bert.`, its numbers a little moved."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        architectures=["BertModel"],
    )
    state = {name: tensor.clone() for name, tensor in BertModel(config).state_dict().items()}
    moved = {
        name: one + noise * torch.randn_like(one) if one.dim() == 2 else one for name, one in state.items()
    }
    moved["embeddings.position_ids"] = torch.arange(16)[None]
    made = write_checkpoint(Path(folder), moved, config.to_dict())
    for name, text in SENTENCES.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
    return made


def encoded(folder: Path) -> Tensor:
    """What mean pooling makes of three sentences, of length 1."""
    from transformers import BertModel

    model = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 1], [2, 2, 3, 5]])).last_hidden_state
    return torch.nn.functional.normalize(states.mean(1))


def test_a_merged_encoder_of_sentences_keeps_its_modules_and_encodes() -> None:
    a, b = encoder("a", 0.0), encoder("b", 0.002)
    out = merged(mean("./a", "./b"))
    assert {name: (out / name).read_text() for name in SENTENCES} == SENTENCES
    vectors = encoded(out)
    for parent in (a, b):
        assert ((encoded(parent) * vectors).sum(1) > 0.99).all()
    assert not vectors.equal(encoded(a))


def with_dense(folder: Path, value: float, size: int = 2) -> Path:
    """A package whose third module projects, with a config, as modules.json says."""
    dense = folder / "2_Dense"
    dense.mkdir()
    tensors = {"linear.weight": torch.full((size, 2), value), "linear.bias": torch.full((size,), -value)}
    save_file(tensors, dense / "model.safetensors")
    (dense / "config.json").write_text(json.dumps({"in_features": 2, "out_features": size}))
    listed = json.loads((folder / "modules.json").read_text())
    module = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*listed[:2], module]))
    return dense


def test_weights_of_further_modules_are_merged_where_all_have_them() -> None:
    with_dense(encoder("a", 0.0), 1.0)
    with_dense(encoder("b", 0.002), 2.0)
    made = plan(mean("./a", "./b"), registry=registry())
    assert [(one.names, one.reason) for one in made.dropped] == [
        (("embeddings.position_ids",), "it is not a weight, and that of another model is copied")
    ]
    assert made.warnings == ()
    out = merged(mean("./a", "./b"))
    dense = load_file(out / "2_Dense" / "model.safetensors")
    assert sorted(dense) == ["linear.bias", "linear.weight"]
    assert dense["linear.weight"].equal(torch.full((2, 2), 1.5))
    assert dense["linear.bias"].equal(torch.full((2,), -1.5))
    assert not any("linear" in name for name in load_file(out / "model.safetensors"))
    assert json.loads((out / "2_Dense" / "config.json").read_text())["out_features"] == 2
    assert verify_folder(out).files == len([one for one in out.rglob("*") if one.is_file()]) - 1
    assert encoded(out).shape == (3, 8)


def test_a_merge_of_modules_is_taken_up_where_it_stopped() -> None:
    with_dense(encoder("a", 0.0), 1.0)
    with_dense(encoder("b", 0.002), 2.0)
    whole = merged(mean("./a", "./b"))
    before = {one: one.read_bytes() for one in whole.rglob("*") if one.is_file()}
    made = plan(mean("./a", "./b"), registry=registry())
    again = Path("again")

    def stop(event: object) -> None:
        if isinstance(event, StepDone) and event.done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(made, again, registry=registry(), progress=stop)
    execute(made, again, registry=registry(), options=RunOptions(mode="resume"))
    for file, content in before.items():
        assert (again / file.relative_to(whole)).read_bytes() == content


@pytest.mark.parametrize(("having", "told"), [("a", "copied from it, not merged"), ("b", "left out")])
def test_weights_of_a_module_that_one_model_lacks_are_told_of(having: str, told: str) -> None:
    folders = {name: encoder(name, 0.002) for name in "ab"}
    with_dense(folders[having], 1.0)
    made = plan(mean("./a", "./b"), registry=registry())
    other = "b" if having == "a" else "a"
    sentence = f"weights in 2_Dense of ./{having} are {told}: ./{other} has no such weights"
    assert sentence in made.warnings
    dropped = [name for one in made.dropped for name in one.names if "linear" in name]
    assert bool(dropped) == (having == "b")
    out = merged(mean("./a", "./b"))
    assert (out / "2_Dense" / "model.safetensors").exists() == (having == "a")


def test_modules_of_other_sizes_are_refused() -> None:
    with_dense(encoder("a", 0.0), 1.0)
    with_dense(encoder("b", 0.0), 1.0, size=3)
    with pytest.raises(
        MergecoreError, match=r"shapes differ for '2_Dense/linear\.bias': ./a \[2\], ./b \[3\]"
    ):
        plan(mean("./a", "./b"), registry=registry())


def test_a_module_whose_weights_are_a_pickle_is_refused() -> None:
    dense = with_dense(encoder("a", 0.0), 1.0)
    encoder("b", 0.0)
    (dense / "model.safetensors").rename(dense / "pytorch_model.bin")
    with pytest.raises(MergecoreError, match=r"the weights are pickles \(pytorch_model\.bin\)") as caught:
        plan(mean("./a", "./b"), registry=registry())
    assert caught.value.code == "E303"


def with_folder_for_the_transformer(folder: Path) -> None:
    """Move what lies beside modules.json into `0_Transformer`, as early releases wrote it."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in [one for one in folder.iterdir() if one.is_file()]:
        if file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(inner / file.name)
    listed = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([{**listed[0], "path": "0_Transformer"}, *listed[1:]]))


@pytest.mark.parametrize("moved", ["a", "b", "ab"])
def test_a_transformer_in_a_folder_of_its_own_is_the_model(moved: str) -> None:
    for name, noise in (("a", 0.0), ("b", 0.002)):
        with_dense(encoder(name, noise), 1.0)
    expected = {one.name: one.read_bytes() for one in merged(mean("./a", "./b")).rglob("*.safetensors")}
    for name in moved:
        with_folder_for_the_transformer(Path(name))
    out = merged(mean("./a", "./b"))
    assert {one.name: one.read_bytes() for one in out.rglob("*.safetensors")} == expected
    assert (out / "config.json").exists()
    assert (out / "sentence_bert_config.json").exists()
    assert not (out / "0_Transformer").exists()
    paths = [one["path"] for one in json.loads((out / "modules.json").read_text())]
    assert paths == ["", "1_Pooling", "2_Dense"]
    assert encoded(out).shape == (3, 8)
