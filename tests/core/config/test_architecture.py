"""What YAML files say of model families: in the config, and from other packages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_tensors, registry, write_checkpoint
from torch import Tensor

from mergecore import merge, plan
from mergecore.config.architecture import ArchitectureFile, Matching, parse_architecture
from mergecore.errors import ConfigError, MergecoreError, Problems
from mergecore.files.yaml_document import parse_document
from mergecore.models.refine import refined
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Architecture,
    Checkpoint,
    Json,
    ModelReference,
    Stack,
    Stored,
    TensorFacts,
    TensorInfo,
)
from mergecore.types.execution import RunOptions
from mergecore_architectures.names import describe

ACME = """
match: {model_type: acme}
layers: tower.
layer_count_key: tower.floors
tied: {sign.weight: letters.weight}
tensors:
  - {filter: "re:lift$", role: attn.q}
  - {filter: letters, role: embed, vocabulary_axis: 0}
  - {filter: roof, role: norm, after: true}
"""
CONFIG: dict[str, Json] = {"model_type": "acme", "tower": {"floors": 2}, "cellar": {"depth": 2}}


def acme(value: float) -> dict[str, Tensor]:
    """Names that no one can guess: two stacks of two layers, a table of tokens, a norm."""
    tensors = {"letters.weight": torch.full((8, 2), value), "roof": torch.full((2,), value)}
    for stack in ("tower", "cellar"):
        for layer in range(2):
            tensors |= {
                f"{stack}.{layer}.{part}": torch.full((2, 2), value) for part in ("lift", "up", "norm")
            }
    return tensors


def checkpoint(config: Mapping[str, Json] = CONFIG) -> Checkpoint:
    file = Path("f")
    stored = [Stored(name, "F32", tuple(one.shape), file, 0) for name, one in acme(0.0).items()]
    tensors = {one.name: TensorInfo(one.name, one) for one in stored}
    return Checkpoint(ModelReference("m"), Path(), tensors, (), config)


def parsed(text: str) -> ArchitectureFile:
    return parse_architecture(parse_document(text, "acme.yml"))


def test_a_file_adds_to_what_the_names_say() -> None:
    one = checkpoint()
    before = describe(one)
    assert before.main is None  # two stacks alike
    found = refined(before, one, parsed(ACME))
    assert found.main == Stack("tower.", 2)
    assert found.layer_count_key == ("tower", "floors")
    assert found.tied == {"sign.weight": "letters.weight"}
    assert found.tensors["tower.1.lift"].role == "attn.q"
    assert (found.tensors["letters.weight"].role, found.tensors["letters.weight"].vocabulary_axis) == (
        "embed",
        0,
    )
    assert found.tensors["roof"] == TensorFacts(suffix="roof", role="norm", after=True, module="tower")
    assert found.tensors["tower.1.up"] == before.tensors["tower.1.up"]
    assert found.tensors.keys() == one.tensors.keys()


def test_a_tie_holds_only_for_what_is_missing() -> None:
    one = checkpoint()
    both = {"sign.weight": "nothing.weight", "roof": "letters.weight"}
    assert refined(describe(one), one, parsed(f"tied: {json.dumps(both)}")).tied == {}


@pytest.mark.parametrize(
    ("match", "config", "accepted"),
    [
        ("{}", {}, True),
        ("{model_type: a}", {"model_type": "a"}, True),
        ("{model_type: [b, a]}", {"model_type": "a"}, True),
        ("{model_type: a}", {"model_type": "b"}, False),
        ("{architectures: X}", {"architectures": ["X"]}, True),
        ("{architectures: X}", {"architectures": "X"}, False),
        ("{model_type: a, architectures: X}", {"model_type": "a", "architectures": ["Y"]}, False),
    ],
)
def test_a_file_is_for_the_models_that_it_names(
    match: str, config: Mapping[str, Json], accepted: bool
) -> None:
    found = parsed(f"match: {match}")
    assert found.match.accepts(config) is accepted


def test_a_file_for_other_models_says_nothing() -> None:
    one = checkpoint({"model_type": "other"})
    before = describe(one)
    assert refined(before, one, parsed(ACME)) is before


def test_layers_that_are_not_there_are_told() -> None:
    one = checkpoint()
    with pytest.raises(ConfigError, match=r"m has no layers 'attic\.'") as caught:
        refined(describe(one), one, parsed("layers: attic."))
    assert caught.value.hint == "its stacks: tower., cellar."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("layres: x", "acme.yml:1:1: unknown key 'layres' in an architecture; did you mean 'layers'?"),
        ("tensors: [{role: x}]", "acme.yml:1:11: 'filter' is missing from a rule for tensors"),
        (
            "tensors: [{filter: x, role: A b}]",
            "'A b' is not a role; words with dots between them are expected, such as attn.q",
        ),
        ("tensors: [{filter: x, vocabulary_axis: -1}]", "a number of at least 0 is expected"),
        ("tensors: [{filter: 're:('}]", "the filter 're:(': not a regular expression"),
        ("match: {family: x}", "unknown key 'family' in the conditions"),
        ("layers: [x]", "'layers' is ['x']; text is expected"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert told in str(caught.value)


# ---- in a config -------------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the models a, all ones, and b, all threes, and what is known of them."""
    monkeypatch.chdir(tmp_path)
    Path("acme.yml").write_text(ACME)
    for name, value in (("a", 1.0), ("b", 3.0)):
        write_checkpoint(Path(name), acme(value), CONFIG)


def mean(**extra: Any) -> dict[str, Any]:
    entries = [{"model": name} for name in ("a", "b")]
    return {"merge_method": "linear", "models": entries, "parameters": {"weight": 1}, **extra}


def stacked(**extra: Any) -> dict[str, Any]:
    slices = [{"sources": [{"model": name, "layer_range": [0, 2]}]} for name in ("a", "b")]
    return {"merge_method": "passthrough", "slices": slices, **extra}


@pytest.mark.usefixtures("models")
def test_a_config_names_a_file() -> None:
    config = stacked(architecture="acme.yml")
    found = read_tensors(merge(config, "out", registry=registry()))
    assert found["tower.3.lift"].unique().tolist() == [3]
    assert found["roof"].unique().tolist() == [3]  # after the layers: from the last slice
    assert json.loads(Path("out/config.json").read_text())["tower"] == {"floors": 4}


@pytest.mark.usefixtures("models")
def test_a_config_holds_what_a_file_would_say() -> None:
    rules = [{"filter": "re:lift$", "role": "attn.q"}]
    made = plan(mean(architecture={"tensors": rules}, include="role:attn"), registry=registry())
    assert [step.name for step in made.steps if step.method] == [
        f"{stack}.{layer}.lift" for stack in ("cellar", "tower") for layer in range(2)
    ]


@pytest.mark.usefixtures("models")
def test_later_files_have_the_last_word() -> None:
    more = {"match": {"model_type": "acme"}, "tensors": [{"filter": "lift", "role": "mlp.up"}]}
    made = plan(mean(architecture=["acme.yml", more]), registry=registry())
    assert next(step.role for step in made.steps if step.name == "tower.0.lift") == "mlp.up"


@pytest.mark.usefixtures("models")
def test_what_is_true_of_no_model_is_told() -> None:
    other = {"match": {"model_type": "emca", "architectures": "Emca"}}
    rules = [{"filter": "zzz", "role": "mixer.A"}, {"filter": "lift", "role": "mlp.up"}]
    vain = {"tensors": rules, "tied": {"x.w": "y.w"}}
    made = plan(mean(architecture=["acme.yml", other, vain]), registry=registry())
    assert made.warnings == (
        "what 'architecture' says of emca, Emca is for none of these models",
        "'architecture': the filter 'zzz' matches no tensor",
        "'architecture': there is neither 'x.w' nor 'y.w' to be tied",
    )


@pytest.mark.usefixtures("models")
def test_the_plan_keeps_what_was_said_and_needs_no_file() -> None:
    made = plan(mean(architecture="acme.yml"), registry=registry())
    Path("acme.yml").unlink()
    assert made.document["architecture"] == [parsed(ACME).as_json()]
    assert parsed(ACME).as_json() == {**parse_document(ACME).data, "match": {"model_type": ["acme"]}}
    again = plan(made.document, registry=registry())
    assert [step.role for step in again.steps] == [step.role for step in made.steps]
    options = RunOptions(overwrite=True)
    merge(made.document, "out", registry=registry(), run_options=options)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "E104 3 is not an architecture. Hint: write the path of a YAML file"),
        ("nothing.yml", "E105 nothing.yml: no such file"),
        ({"layers": 3, "tied": 4}, "'layers' is 3; text is expected"),
        ({"layers": "attic."}, "E105 a has no layers 'attic.'. Hint: its stacks: cellar., tower."),
    ],
)
def test_what_is_wrong_with_it_is_told(value: Json, told: str) -> None:
    with pytest.raises(MergecoreError) as caught:
        plan(mean(architecture=value), registry=registry())
    error = caught.value.errors[0] if isinstance(caught.value, Problems) else caught.value
    assert told in f"{error.code} {error}"


# ---- from another package ----------------------------------------------------------------------------------


def test_a_package_brings_a_file(tmp_path: Path, write_plugin: Callable[..., Path], models: None) -> None:
    code = (
        "from pathlib import Path\n"
        "from mergecore import hookimpl\n"
        "from mergecore_architectures.data_files import from_file\n"
        "@hookimpl\n"
        "def mergecore_architectures():\n"
        "    yield from_file('acme', Path(__file__).with_name('acme.yml'))\n"
    )
    folder = write_plugin("acme", code)
    (folder / "acme.yml").write_text(ACME)
    made = plan(stacked(), registry=Registry.discover())
    assert made.descriptions[0].main == Stack("tower.", 2)
    other = checkpoint({"model_type": "other"})
    acme_describer = Registry.discover().get(Architecture, "acme")
    assert acme_describer.rank == 20
    assert acme_describer.describe(other) is None


def test_matching_nothing_is_matching_everything() -> None:
    assert Matching().accepts({})


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            {"layer_count_key": "tower.flors"},
            "the config of m has no 'tower.flors'; did you mean 'floors'? "
            "Hint: 'layer_count_key' is the key that holds the number of layers",
        ),
        (
            {"tensors": [{"filter": "letters", "vocabulary_axis": 2}]},
            "'letters.weight' has the shape [8, 2], and no axis 2. Hint: 'vocabulary_axis' counts from 0",
        ),
    ],
)
def test_what_a_model_does_not_have_is_refused(said: dict[str, Json], told: str) -> None:
    known = parse_architecture(parse_document(json.dumps(said), "a.yml"))
    with pytest.raises(ConfigError) as caught:
        refined(describe(checkpoint()), checkpoint(), known)
    assert str(caught.value).startswith(told)
