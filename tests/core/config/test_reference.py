"""Model references: text, mappings, and paths that look like neither."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from refusals import refused

from mergecore.config.reference import exists_below, parse_reference
from mergecore.errors import ConfigError
from mergecore.types import AdapterReference, Json, ModelReference


def parse(value: Json, *existing: str) -> ModelReference:
    return parse_reference(value, lambda text: text in existing)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("org/name", ModelReference("org/name")),
        ("org/name@v1", ModelReference("org/name", "v1")),
        ("hf:org/name@v1", ModelReference("hf:org/name", "v1")),
        ("org/name+org/lora", ModelReference("org/name", adapters=(AdapterReference("org/lora"),))),
        ("a@1+b@2", ModelReference("a", "1", adapters=(AdapterReference("b", "2"),))),
        ("a+b@2+c", ModelReference("a", adapters=(AdapterReference("b", "2"), AdapterReference("c")))),
        ("./my models/a", ModelReference("./my models/a")),
    ],
)
def test_text_is_split_at_the_revision_and_the_adapter(text: str, reference: ModelReference) -> None:
    assert parse(text) == reference
    assert str(reference) == text


def test_text_that_exists_as_a_path_is_taken_whole() -> None:
    assert parse("user@host/a+b+c", "user@host/a+b+c") == ModelReference("user@host/a+b+c")
    assert parse("a@b+lora@1", "a@b") == ModelReference("a@b", adapters=(AdapterReference("lora", "1"),))
    assert parse({"model": "a@b"}, "a@b") == ModelReference("a@b")


def test_mappings_need_no_escapes() -> None:
    assert parse({"path": "a@b+c", "revision": "v@1"}) == ModelReference("a@b+c", "v@1")
    assert parse({"model": {"path": "a+b"}, "lora": "c@1"}) == ModelReference(
        "a+b", adapters=(AdapterReference("c", "1"),)
    )
    assert parse(
        {"model": "a@1", "lora": None, "override_architecture": "LlamaForCausalLM"}
    ) == ModelReference("a", "1", architecture="LlamaForCausalLM")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a@b@c", r"'a@b@c' has more than one '@'\. Hint: the form is PATH\[@REVISION\]"),
        ("a + b", r"the model reference 'a \+ b' has blanks around a name\. Hint: write 'a\+b'"),
        (" a@main +b @ c", r"has blanks around a name\. Hint: write 'a@main\+b@c'"),
        ("a++c", r"'a\+\+c' has an empty part"),
        ("a+", r"'a\+' has an empty part"),
        ("@main", r"'@main' has an empty part"),
        ("a@", r"'a@' has an empty part"),
        ("hf:", r"'hf:' has an empty part"),
        ("", r"'' does not name a model"),
        (3, r"3 does not name a model.*numbers need quotes"),
        (None, r"None does not name a model"),
        ([], r"\[\] does not name a model"),
        (
            {},
            r"a model reference needs 'model', 'path' or 'adapter'\. Hint: write \{model: …, adapter: …\} or \{path: …",
        ),
        (
            {"model": "a", "lora": "b", "adapter": "c"},
            r"a model reference has 'adapter' and 'lora'.*as a list under 'adapters'",
        ),
        ({"model": "a", "adapters": "b"}, r"'adapters' is 'b'; a list is expected"),
        ({"model": "a", "adapters": []}, r"'adapters' is \[\]; a list is expected"),
        (
            {"model": "a", "adapters": [{"path": "b", "scale": "x"}]},
            r"'scale' is 'x'; a number is expected\. Hint: write for example 0\.5",
        ),
        ({"model": "a", "adapters": [{"path": "b", "scale": math.inf}]}, r"'scale' is inf; a number"),
        ({"model": "a", "adapters": [{"path": "b", "scale": True}]}, r"'scale' is True; a number"),
        ({"model": "a", "adapters": [{"path": "b", "weight": 1}]}, r"unknown key 'weight'"),
        ({"model": "a", "adapter": 3}, r"3 does not name a model"),
        ({"model": "a", "lra": "b"}, r"unknown key 'lra' in a model reference; did you mean 'lora'\?"),
        ({"path": "a", "model": "b"}, r"unknown key 'model' in a model reference"),
        ({"path": 3}, r"'path' is 3; text is expected"),
        ({"path": "a", "revision": 1}, r"'revision' is 1; text is expected.*quotes"),
        ({"model": "a", "override_architecture": 1}, r"'override_architecture' is 1; text is expected"),
        ({"model": 3}, r"3 does not name a model"),
        ({"model": "a", "lora": "b@c@d"}, r"more than one '@'"),
    ],
)
def test_what_names_no_model_is_told(value: Json, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(value)
    assert caught.value.code == "E112"


def test_adapters_may_be_several_scaled_and_without_a_base() -> None:
    two: list[Json] = [{"path": "x+y", "scale": 0.5}, "b@1"]
    adapters = (AdapterReference("x+y", scale=0.5), AdapterReference("b", "1"))
    assert parse({"model": "a", "adapters": two}) == ModelReference("a", adapters=adapters)
    assert str(parse({"model": "a", "adapters": two})) == "a+x+y times 0.5+b@1"
    assert parse({"adapter": "b"}) == ModelReference("", adapters=(AdapterReference("b"),))
    assert str(parse({"adapter": "b"})) == "b"


def test_paths_begin_at_the_given_folder_and_odd_text_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "a+b").mkdir()
    exists = exists_below(tmp_path)
    assert exists("a+b")
    assert not exists("a")
    assert not exists("x" * 5000)
    assert not exists("a\0b")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "a/" + "y" * 300])
@pytest.mark.parametrize("key", ["model", "base_model", "tokenizer_source"])
def test_names_that_no_file_can_have_are_refused_as_all_others(name: str, key: str) -> None:
    config: dict[str, Json] = {
        "merge_method": "linear",
        "parameters": {"weight": 1},
        "models": [{"model": name if key == "model" else "a"}, {"model": "b"}],
    }
    if key != "model":
        config[key] = name
    assert refused(config)
