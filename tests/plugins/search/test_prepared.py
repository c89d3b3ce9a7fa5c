"""What a search is checked for before a weight is read: its models, what they are measured by, data held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import Cli, WritePlugin
from near_evaluator import CODE, CONFIG
from tiny import write_llama

from mergecore import ConfigError
from mergecore_plugins.search.judging.bench import Asked
from mergecore_plugins.search.searching import Prepared, prepared

pytestmark = pytest.mark.usefixtures("near_models")
SEARCH = CONFIG[CONFIG.index("search:") :]


def checked(text: str) -> Prepared:
    Path("s.yml").write_text(text)
    return prepared(Asked("s.yml", json.dumps({}), threads=1))


@pytest.mark.parametrize(
    ("method", "listed", "parameter", "wanted"),
    [
        ("linear", "base a b", "weight: !range [0.1, 1]", 4 / 3),  # weights are 0, 1 and 3
        ("slerp", "base b", "t: !range [0, 1]", 3 / 2),
        ("task_arithmetic", "base a b", "weight: !range [0, 1]", 2),  # the change of the base is 0
        ("ties", "a b", "weight: 1, density: !range [0.1, 1]", 2),
        ("!choice [ties, linear]", "base a b", "weight: !range [0.1, 1]", 4 / 3),
    ],
)
def test_a_base_counts_in_the_average_where_it_is_merged_as_the_others_are(
    method: str, listed: str, parameter: str, wanted: float
) -> None:
    models = [f"./{one}" for one in listed.split()]
    entries = "\n".join(f"- model: {one}" for one in models)
    made = checked(
        f"merge_method: {method}\nbase_model: ./base\nmodels:\n{entries}\nparameters: {{{parameter}}}\n{SEARCH}"
    )
    parents = [one for one in models if one != "./base"]
    assert [(one.kind, one.name) for one in made.references] == [
        ("average", "average"),
        *(("parent", one) for one in parents),
        ("base", "./base"),
    ]
    average = made.bench.workshop.reference(made.references[0])
    weight = average.module().state_dict()["model.layers.0.mlp.up_proj.weight"]
    assert weight.double().mean().item() == pytest.approx(wanted, abs=1e-2)


@pytest.mark.parametrize("changed", ["a", "b", "base"])
def test_a_search_is_not_gone_on_with_when_an_option_has_changed(changed: str, tmp_path: Path) -> None:
    text = f"""
merge_method: task_arithmetic
base_model: ./base
models:
- model: !choice [./a, ./b]
  parameters: {{weight: !range [0, 1]}}
{SEARCH}"""
    before, again = checked(text).identity, checked(text).identity
    assert before == again
    write_llama(tmp_path / changed, 3, 7.0)
    assert before["models"] != checked(text).identity["models"]


def test_a_search_is_not_gone_on_with_when_what_it_compares_with_has_changed(
    tmp_path: Path, write_plugin: WritePlugin
) -> None:
    compared = "compared=lambda model, params: [model.open('./other')],\n        public_test_set="
    code = CODE.replace('name="near", evaluate', 'name="beside", evaluate')
    write_plugin("beside", code.replace("public_test_set=", compared))
    text = CONFIG.replace("evaluator: near", "evaluator: beside")
    write_llama(tmp_path / "other", 3, 5.0)
    before = checked(text).identity
    write_llama(tmp_path / "other", 3, 7.0)
    after = checked(text).identity
    assert [key for key in before if before[key] != after[key]] == ["compared"]


@pytest.mark.parametrize(
    "more", ["texts: dev.txt", "texts: copy.txt", "limit: 2", "texts: copy.txt, limit: 2"]
)
def test_data_of_an_objective_is_not_held_out(cli: Cli, more: str) -> None:
    """A copy is the same data, and so is a part of it; other texts are not."""
    for name, text in (("dev", "a b\nc d\ne f\n"), ("copy", "a b\nc d\ne f\n"), ("test", "g h\ni j\n")):
        Path(f"{name}.txt").write_text(text)
    text = CONFIG.replace("{evaluator: near}", "{evaluator: perplexity, texts: dev.txt, split: line}")
    Path("s.yml").write_text(f"{text}  holdout: {{{more}}}\n")
    outcome = cli("search", "s.yml", "out")
    assert outcome.code == 2, outcome.err
    assert "s.yml:12:12" in outcome.err
    assert (
        "'holdout' has the data of the objective 'perplexity': points are chosen by it, so it cannot say how good "
        "they are. Hint: name data that no objective looks at, or leave 'holdout' out"
    ) in " ".join(outcome.err.split())
    assert not Path("out").exists()
    assert checked(f"{text}  holdout: {{texts: test.txt}}\n").notes == ()
    (note,) = checked(f"{text}  holdout: {{texts: copy.txt, split: file}}\n").notes
    assert note.startswith(
        "'holdout' reads copy.txt, as an objective does: samples that points are chosen by say nothing"
    )


def test_all_files_that_are_not_there_are_told_at_once(cli: Cli) -> None:
    Path("heard.txt").write_text("a\n")
    text = CONFIG.replace("{evaluator: near}", "{evaluator: perplexity, texts: hear.txt}")
    Path("s.yml").write_text(f"{text}  holdout:\n    texts: nosuch.txt\n")
    outcome = cli("search", "s.yml", "out")
    said = " ".join(outcome.err.split())
    assert outcome.code == 3, said
    assert (
        "E270: s.yml:11:47: 'texts' names hear.txt, which is not there; did you mean 'heard.txt'? Hint: paths are "
        "relative to the folder of the file that names them"
    ) in said
    assert "E270: s.yml:13:5: 'texts' names nosuch.txt, which is not there." in said
    assert not Path("out").exists()


def test_slips_are_told_with_their_places(cli: Cli) -> None:
    Path("s.yml").write_text(CONFIG.replace("!range [0, 1]", "!rnge [0, 1]"))
    outcome = cli("search", "s.yml", "out")
    assert "s.yml:6:24: unknown tag '!rnge'; did you mean '!range'? Hint: correct it" in outcome.err
    text = CONFIG.replace("task_arithmetic", "!choice [task_arithmetic, linear]")
    Path("s.yml").write_text(f"{text}  sampler: cma\n")
    outcome = cli("search", "s.yml", "out")
    assert "E104: s.yml:12:12: the sampler 'cma' takes ranges of numbers only; " in outcome.err


def test_documents_before_the_last_are_no_models_to_compare_with() -> None:
    made = checked(
        "name: first\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\n---\n"
        "merge_method: task_arithmetic\nbase_model: ./base\nmodels: [{model: first}, {model: ./b}]\n"
        f"parameters: {{weight: !range [0, 1]}}\n{SEARCH}"
    )
    assert [one.name for one in made.references] == ["average", "./a", "./b", "./base"]


@pytest.mark.parametrize(
    ("groups", "told"), [(9, "the range has 9 groups of layers; 3 layers can be told apart"), (3, "")]
)
def test_a_range_has_no_more_groups_than_there_are_layers(groups: int, told: str) -> None:
    text = CONFIG.replace("groups: 2", f"groups: {groups}")
    if not told:
        assert len(checked(text).request.dimensions) == 1 + groups
        return
    with pytest.raises(ConfigError, match=told) as caught:
        checked(text)
    assert (caught.value.code, caught.value.hint) == ("E104", "write 'groups: 3' or fewer")
    assert str(caught.value.place).startswith("s.yml:8:")


def test_of_one_layer_there_are_no_groups(tmp_path: Path) -> None:
    for name in ("base", "a", "b"):
        write_llama(tmp_path / name, 1, 0.0)
    with pytest.raises(ConfigError, match="2 groups of layers; 1 layer can be told apart") as caught:
        checked(CONFIG)
    assert caught.value.hint == "leave 'per: layer_group' out"
