"""Several documents in one file, of which one reads what another makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from fixture_types import Cli, WritePlugin
from safetensors.torch import save_file
from tiny import HIDDEN, read_tensors, write_llama

import mergecore
from mergecore import ConfigError, MergecoreError, PlanOptions
from mergecore.errors import Problems

Write = Callable[[str], Path]
VALUES = {"a": 1.0, "b": 3.0, "c": 6.0, "d": 12.0}
LINEAR = "merge_method: linear\nparameters: {weight: 1}\n"
CHAIN = f"""\
name: first
{LINEAR}models: [{{model: ./a}}, {{model: ./b}}]
---
name: second
{LINEAR}models: [{{model: first}}, {{model: ./c}}]
---
{LINEAR}models: [{{model: second}}, {{model: ./d}}]
"""
# first = (1 + 3) / 2 = 2, second = (2 + 6) / 2 = 4, the result = (4 + 12) / 2 = 8


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes the config; four models, all of whose numbers are one, lie beside it."""
    monkeypatch.chdir(tmp_path)
    for name, value in VALUES.items():
        write_llama(tmp_path / name, 1, value)

    def to(text: str) -> Path:
        Path("config.yml").write_text(text)
        return Path("config.yml")

    return to


def values(folder: str) -> set[float]:
    return {value for one in read_tensors(Path(folder)).values() for value in one.unique().tolist()}


def told(config: Path, **options: object) -> list[str]:
    """What is wrong with a config, error by error."""
    with pytest.raises(MergecoreError) as caught:
        mergecore.plan(config, options=PlanOptions(**options))  # type: ignore[arg-type]
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    return [f"{one.code} {one}" for one in errors]


# ---- what is made ------------------------------------------------------------------------------------------


def test_a_document_reads_what_another_one_makes(write: Write, cli: Cli) -> None:
    outcome = cli("merge", write(CHAIN), "out")
    assert outcome.code == 0, outcome.err
    assert values("out") == {8.0}
    assert cli("verify", "out").code == 0


def test_documents_may_stand_in_any_order(write: Write, cli: Cli) -> None:
    parts = CHAIN.split("---\n")
    assert cli("merge", write("---\n".join(reversed(parts))), "out").code == 0
    assert values("out") == {8.0}


def test_what_is_not_the_name_of_a_model_is_left_alone(write: Write, cli: Cli) -> None:
    """A document called `linear` is no merge method, and one called `base` no tokenizer source."""
    text = CHAIN.replace("first", "linear").replace("second", "base")
    assert cli("merge", write(text + "tokenizer_source: null\n"), "out").code == 0
    assert values("out") == {8.0}


def test_the_result_is_the_document_that_no_other_reads_where_all_have_names(write: Write, cli: Cli) -> None:
    text = CHAIN.replace("---\nmerge_method", "---\nname: My model!\nmerge_method")
    assert cli("merge", write(text), "out").code == 0
    assert values("out") == {8.0}
    assert Path("out/README.md").read_text().count("# My model\\!") == 1


def test_an_option_chooses_the_result(write: Write, cli: Cli) -> None:
    outcome = cli("merge", write(CHAIN), "out", "--result", "second")
    assert outcome.code == 0, outcome.err
    assert values("out") == {4.0}
    assert (
        "config.yml:11:1: the document without a name is not read by the result, so it is not made"
        in outcome.err
    )


def test_documents_may_be_a_list_of_mappings(write: Write) -> None:
    linear = {"merge_method": "linear", "parameters": {"weight": 1}}
    one = {"name": "one", **linear, "models": [{"model": Path("a")}, {"model": "./b"}]}
    mergecore.merge([{**linear, "models": [{"model": "one"}, {"model": Path("c")}]}, one], "out")
    assert values("out") == {4.0}  # (2 + 6) / 2


def test_a_single_document_may_be_called_like_a_model_that_it_reads(write: Write) -> None:
    plan = mergecore.plan(write(f"name: a\n{LINEAR}models: [{{model: a}}, {{model: b}}]\n"))
    assert plan.earlier == ()


def test_a_document_may_be_read_at_several_places(write: Write, cli: Cli) -> None:
    text = f"""\
name: soup
{LINEAR}models: [{{model: ./a}}, {{model: ./b}}]
---
merge_method: task_arithmetic
base_model: soup
slices:
- sources:
  - {{model: soup, layer_range: [0, 1]}}
  - {{model: {{path: ./c}}, layer_range: [0, 1], parameters: {{weight: 0.5}}}}
tokenizer: {{source: ./a}}
"""
    outcome = cli("merge", write(text.replace("tokenizer: {source: ./a}\n", "")), "out")
    assert outcome.code == 0, outcome.err
    assert values("out") == {4.0}  # 2 + (6 - 2) / 2


# ---- what is wrong -----------------------------------------------------------------------------------------


def test_errors_of_all_documents_are_told_at_once_each_with_its_line(write: Write) -> None:
    text = (
        CHAIN.replace("./b", "./bb").replace("linear", "linaer", 1).replace("model: second", "model: secnd")
    )
    found = told(write(text))
    assert [one.split(":")[1] for one in found] == ["13", "2", "4"], found


def test_what_reads_a_document_that_is_wrong_is_not_blamed(write: Write) -> None:
    found = told(write(CHAIN.replace("weight: 1", "weihgt: 1", 1)))
    assert len(found) == 1, found
    assert found[0].startswith("E109 config.yml:3:14: ")
    assert "the document 'first' cannot be planned" not in str(found)


def test_documents_that_read_each_other_are_told_once(write: Write) -> None:
    assert told(write(CHAIN.replace("./a", "second"))) == [
        "E118 config.yml:4:18: documents read each other in a circle: second → first → second. "
        "Hint: name another model in one of them"
    ]
    assert told(write(CHAIN.replace("./a", "first"))) == [
        "E118 config.yml:4:18: the document 'first' reads itself. Hint: name another model in one of them"
    ]


def test_a_name_that_is_nearly_that_of_a_document_is_suggested(write: Write) -> None:
    (found,) = told(write(CHAIN.replace("model: second", "model: secnd")), offline=True)
    assert found.startswith("E701 config.yml:13:18: ")
    assert "did you mean the document 'second'?" in found


def test_names_are_taken_once(write: Write) -> None:
    text = CHAIN.replace("name: second\n", "name: first\n") + f"---\n{LINEAR}models: [{{model: ./a}}]\n"
    assert told(write(text)) == [
        "E118 config.yml:6:7: two documents are called 'first'; the first is at line 1. "
        "Hint: give each a name of its own",
        "E118 config.yml:15:1: two documents have no name; the first is at line 11. "
        "Hint: give a 'name:' to those that others read; the one without a name is the result",
    ]


@pytest.mark.parametrize(("one", "other"), [("soup", "Soup"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_some_disks_take_for_one_are_refused(write: Write, one: str, other: str) -> None:
    text = CHAIN.replace("first", one).replace("second", other)
    assert told(write(text)) == [
        f"E118 config.yml:6:7: two documents are called '{one}' and '{other}', which some disks take for one name. "
        "Hint: give them names that differ by more than capital letters"
    ]


def test_a_name_is_also_that_of_a_folder(write: Write) -> None:
    (found,) = told(write(CHAIN.replace("first", "../first")))
    assert found == (
        "E118 config.yml:1:7: '../first' cannot be the name of a document that others read, which is also that of "
        "a folder. Hint: use letters, digits, '_', '-', '.' and spaces"
    )
    (found,) = told(write(CHAIN.replace("name: first", "name: 1")))
    assert found == "E104 config.yml:1:7: 'name' is 1; text is expected. Hint: write it in quotes"


def test_a_name_that_is_also_a_folder_is_ambiguous(write: Write) -> None:
    (found,) = told(write(CHAIN.replace("first", "a")))
    assert found == (
        "E118 config.yml:9:18: 'a' is a document of this file, and a folder or file here. "
        "Hint: write './a' for that, or give the document another name"
    )
    plan = mergecore.plan(write(CHAIN.replace("first", "a").replace("[{model: a}", "[{model: ./a}")))
    assert plan.models[0].name == "second"


def test_a_document_has_no_revisions(write: Write) -> None:
    (found,) = told(write(CHAIN.replace("model: first", "model: first@main")))
    assert found == (
        "E118 config.yml:9:18: 'first' is a document of this file, which has no revision 'main'. "
        "Hint: write 'hf:first@main' for the model of the hub"
    )


def test_one_of_several_results_has_to_be_chosen(write: Write) -> None:
    text = CHAIN.replace("---\nmerge_method", "---\nname: third\nmerge_method").replace(
        "model: second", "model: ./a"
    )
    (found,) = told(write(text))
    assert found == (
        "E118 config.yml:6:7: 2 documents are read by no other, and one can be the result: 'second' "
        "(config.yml:6:7), 'third' (config.yml:11:7). Hint: take the name of the result away, or choose one by "
        "--result NAME"
    )
    assert len(mergecore.plan(write(text), options=PlanOptions(result="third")).models) == 2
    (found,) = told(write(text), result="thrid")
    assert found == "E118 --result: no document is called 'thrid'; did you mean 'third'?"
    (found,) = told(write(text), result="x")
    assert found == "E118 --result: no document is called 'x'; there are 'first', 'second', 'third'"


def test_a_document_that_nobody_reads_is_a_warning_and_with_strict_an_error(write: Write) -> None:
    config = write(CHAIN.replace("model: second", "model: ./a"))
    plan = mergecore.plan(config)
    assert [text for text in plan.warnings if "document" in text] == [
        "config.yml:1:7: the document 'first' is not read by the result, so it is not made",
        "config.yml:6:7: the document 'second' is not read by the result, so it is not made",
    ]
    assert plan.earlier == ()
    with pytest.raises(
        ConfigError, match="the document 'first' is not read by the result, so it is not made"
    ):
        mergecore.plan(config, options=PlanOptions(strict=True))


def test_errors_in_mappings_name_the_one_that_they_are_in(write: Write) -> None:
    hint = "give a mapping, a list of mappings, or the path of a file"
    with pytest.raises(ConfigError, match=rf"^config\[1\] is a str; a mapping is expected\. Hint: {hint}"):
        mergecore.plan([{}, "x"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"^the list of configs is empty"):
        mergecore.plan([])
    with pytest.raises(ConfigError, match=r"empty\. Hint: give at least one mapping"):
        mergecore.plan([])
    with pytest.raises(MergecoreError, match=r"two documents are called 'x'; the first is config\[0\]"):
        mergecore.plan([{"name": "x"}, {"name": "x"}])


def test_a_document_that_makes_no_safetensors_cannot_be_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[3] / "third_party" / "raw")
    found = told(write(CHAIN.replace("name: first", "name: first\noutput: {writer: raw}")))
    assert found == [
        "E118 config.yml:1:7: the document 'first' makes 0.bin, and only safetensors can be read by other documents"
    ]


# ---- what is told ------------------------------------------------------------------------------------------


def test_the_manifest_holds_all_documents(write: Write, cli: Cli) -> None:
    assert cli("merge", write(CHAIN), "out").code == 0
    document = json.loads(Path("out/mergecore-manifest.json").read_text())["document"]
    [(name, second)] = document["made_before"].items()
    [(inner, first)] = second["made_before"].items()
    assert (name, inner) == ("second", "first")
    assert [one["model"] for one in first["models"]] == ["./a", "./b"]


def test_the_card_holds_a_file_of_documents_that_makes_the_same_bytes(write: Write, cli: Cli) -> None:
    """Of a diamond, the document that two others read stands there once; the fourth is not needed."""
    diamond = f"""\
name: left
{LINEAR}models: [{{model: soup}}, {{model: ./b}}]
---
name: result
{LINEAR}models: [{{model: left}}, {{model: right}}]
---
name: soup
{LINEAR}models: [{{model: ./a}}, {{model: ./b}}]
---
name: right
{LINEAR}models: [{{model: ./a}}, {{model: soup}}]
"""
    assert cli("merge", write(diamond), "out", "--seed", "3").code == 0
    card = Path("out/README.md").read_text()
    assert "with this config and `--seed 3`:" in card
    shown = card.split("```yaml\n")[1].split("```")[0]
    assert [one["name"] for one in yaml.safe_load_all(shown)] == ["soup", "left", "right", "result"]
    assert "made_before" not in shown
    again = cli("merge", write(shown), "again", "--seed", "3")
    assert again.code == 0, again.err
    for name in ("model.safetensors", "README.md"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()


# ---- adapters ----------------------------------------------------------------------------------------------

ADAPTERS = """
import json
from dataclasses import replace
from mergecore import OutputTensor, Recipe, hookimpl
from mergecore.types import OutputTensor, SideFiles, Step, TensorInput


def compile(document, planner):
    given = planner.open(document.data["again"], ("again",), adapter=True)
    steps = [
        Step((OutputTensor(name, one.dtype, one.shape),), (TensorInput(0, one),))
        for name, one in given.tensors.items()
    ]
    made = planner.plan((given,), steps, SideFiles({"adapter_config.json": given.side_files["adapter_config.json"]}))
    files = tuple(replace(one, name="adapter_model.safetensors") for one in made.layout.files)
    return replace(made, layout=replace(made.layout, files=files))


@hookimpl
def mergecore_recipes():
    yield Recipe(name="again", accepts=lambda data: "again" in data, compile=compile)
""".replace("from mergecore import OutputTensor, Recipe", "from mergecore import Recipe")


def test_a_document_may_make_an_adapter(write: Write, cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("again", ADAPTERS)
    write_adapter(Path("style"), value=1.0)
    text = f"""\
name: adapter
again: ./style
---
name: soup
{LINEAR}models: [{{model: ./a}}, {{model: ./b}}]
---
merge_method: passthrough
models: [{{model: soup+adapter}}]
"""
    outcome = cli("merge", write(text), "out")
    assert outcome.code == 0, outcome.err
    made = read_tensors(Path("out"))["model.layers.0.self_attn.q_proj.weight"]
    assert made.unique().tolist() == [4.0]  # (1 + 3) / 2, and 1 · 2 · 1 of two ranks
    document = json.loads(Path("out/mergecore-manifest.json").read_text())["document"]
    assert list(document["made_before"]) == ["soup", "adapter"]
    assert told(write(text.replace("soup+adapter", "adapter"))) == [
        "E118 config.yml:10:18: 'adapter' makes an adapter, and a model is expected. "
        "Hint: write 'BASE+adapter' for a model with the adapter on it"
    ]
    assert told(write(text.replace("soup+adapter", "./a+soup"))) == [
        "E118 config.yml:10:18: 'soup' makes a model, and an adapter is expected"
    ]


def write_adapter(folder: Path, value: float) -> None:
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{module}.lora_A.weight": torch.full((2, HIDDEN), value),
        f"{module}.lora_B.weight": torch.ones(HIDDEN, 2),
    }
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "a"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
