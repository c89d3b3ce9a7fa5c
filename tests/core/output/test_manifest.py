import json
from pathlib import Path

from mergecore import __version__
from mergecore.output.manifest import as_bytes, facts, identity
from mergecore.types import (
    AdapterReference,
    Checkpoint,
    Dropped,
    Json,
    Layout,
    ModelReference,
    Plan,
    WeightFile,
)


def checkpoint(folder: Path, reference: ModelReference, **more: str) -> Checkpoint:
    folder.mkdir(exist_ok=True)
    path = folder / "model.safetensors"
    path.write_bytes(b"header and weights")
    return Checkpoint(
        reference=reference,
        folder=folder,
        tensors={},
        weight_files=(WeightFile(path, 18, "ab" * 32, (1, 2, 3)),),
        revision=more.get("revision"),
    )


def plan(
    *models: Checkpoint, document: dict[str, Json] | None = None, warnings: tuple[str, ...] = ()
) -> Plan:
    return Plan(
        models=models,
        primary=0,
        steps=(),
        layout=Layout((), {}),
        side_files={},
        seed=7,
        executor="threads",
        document=document or {},
        dropped=(Dropped(0, ("rotary.inv_freq",), "computed at load time"),) if models else (),
        warnings=warnings,
        plugins={"mergecore": "0.1.0"},
        title="my merge",
    )


def test_the_facts_name_the_plan_its_inputs_and_the_tools(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", ModelReference("org/m"), revision="c0ffee")
    assert facts(plan(model, warnings=("one",)), {"torch": "2.13.0"}, ["two"]) == {
        "format": "mergecore-manifest/1",
        "name": "my merge",
        "mergecore": __version__,
        "document": {},
        "seed": 7,
        "rng": "mergecore-rng/1",
        "models": [
            {
                "reference": "org/m",
                "revision": "c0ffee",
                "files": [{"name": "model.safetensors", "size": 18, "header_sha256": "ab" * 32}],
            }
        ],
        "plugins": {"mergecore": "0.1.0"},
        "libraries": {"torch": "2.13.0"},
        "dropped": [{"model": "org/m", "reason": "computed at load time", "names": ["rotary.inv_freq"]}],
        "warnings": ["one", "two"],
    }


def test_other_weights_under_the_same_header_are_another_plan(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", ModelReference("./m"))
    before = identity(plan(model))
    (tmp_path / "m" / "model.safetensors").write_bytes(b"header and WEIGHTS")
    assert identity(plan(model)) != before


def test_no_local_path_is_left(tmp_path: Path) -> None:
    adapter = AdapterReference(str(tmp_path / "adapters" / "one"))
    model = checkpoint(tmp_path / "m", ModelReference(str(tmp_path / "m"), adapters=(adapter,)))
    document: dict[str, Json] = {
        "models": [{"model": f"{tmp_path}/m@main+{tmp_path}/adapters/one"}, {"model": "/data/models/b/"}],
        str(tmp_path / "m"): [1, None, "~/x/y"],
        "tokens": {"/think": "a/b", "</s>": "/"},
    }
    value = facts(plan(model, document=document, warnings=(f"{tmp_path / 'm'}: no tokenizer",)), {})
    assert value["document"] == {
        "models": [{"model": "m@main+one"}, {"model": "b"}],
        "m": [1, None, "y"],
        "tokens": {"/think": "a/b", "</s>": "/"},
    }
    assert value["warnings"] == ["m: no tokenizer"]
    assert str(tmp_path) not in json.dumps(value)


def test_a_path_is_shortened_only_where_it_stands_alone(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", ModelReference(str(tmp_path / "m"), revision="x"))
    texts: list[Json] = [f"{tmp_path}/m2", f"see {tmp_path}/m/config.json", f"x{tmp_path}/m"]
    value = identity(plan(model, document={"texts": [f"see {text}" for text in texts]}))
    assert value["document"] == {
        "texts": [f"see {tmp_path}/m2", "see see m/config.json", f"see x{tmp_path}/m"],
    }


def test_a_manifest_has_one_line_for_each_fact(tmp_path: Path) -> None:
    text = as_bytes(
        {"seed": 1, "none": {}, "tensors": {"a": {"shape": [1, 2]}, "é": 2}, "files": ["x", {"y": 1}]}
    )
    assert text.decode() == (
        '{\n"seed": 1,\n"none": {},\n"tensors": {\n  "a": {"shape": [1, 2]},\n  "é": 2\n},\n'
        '"files": [\n  "x",\n  {"y": 1}\n]\n}\n'
    )
    assert json.loads(text)["files"] == ["x", {"y": 1}]
