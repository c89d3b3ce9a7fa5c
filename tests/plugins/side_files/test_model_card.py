"""The model card says what was merged, and nothing in a name can change what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mergecore.models.card_data import card_data
from mergecore.planning.side_files.collect import without_paths
from mergecore.types import AdapterReference, Checkpoint, Json, ModelReference, SideFileRequest
from mergecore.types.params import NoParams
from mergecore_plugins.side_files.model_card import model_card

CONFIG: dict[str, Json] = {
    "merge_method": "linear",
    "models": [{"model": "m/a", "parameters": {"weight": 1}}],
}


def model(path: str, revision: str | None = None, adapter: str | None = None) -> Checkpoint:
    reference = ModelReference(path, adapters=(AdapterReference(adapter),) if adapter else ())
    return Checkpoint(reference, Path("/cache/some/folder"), {}, (), revision=revision)


def card(*models: Checkpoint, title: str = "", document: dict[str, Json] | None = None) -> str:
    request = SideFileRequest(models=models, title=title, made_by="linear", document=document or CONFIG)
    content = model_card(without_paths(request), NoParams()).files["README.md"]
    assert isinstance(content, bytes)
    return content.decode()


def parts(text: str) -> tuple[dict[str, Any], list[str], Any]:
    """The metadata, the lines between, and the config; split as readers of Markdown would."""
    lines = text.split("\n")
    assert lines[0] == "---"
    end = lines.index("---", 1)
    start = next(i for i, line in enumerate(lines) if line.startswith("```"))
    fence = lines[start].removesuffix("yaml")
    close = next(i for i, line in enumerate(lines[start + 1 :], start + 1) if line.startswith(fence))
    assert lines[close:] == [fence, ""]
    assert set(fence) == {"`"}
    return (
        yaml.safe_load("\n".join(lines[1:end])),
        lines[end + 1 : start],
        yaml.safe_load("\n".join(lines[start + 1 : close])),
    )


def test_a_card_names_models_method_and_config() -> None:
    assert card(model("m/a"), model("m/b"), title="Two in one") == (
        "---\nlibrary_name: transformers\ntags:\n- mergecore\n- merge\n---\n"
        "# Two in one\n\n"
        "This model was merged with mergecore by the method `linear` from\n\n"
        "* `m/a`\n* `m/b`\n\n"
        "with this config:\n\n"
        "```yaml\n"
        "merge_method: linear\n"
        "models:\n"
        "- model: m/a\n"
        "  parameters: {weight: 1}\n"
        "```\n"
    )


def test_models_of_a_hub_are_linked() -> None:
    front, _, _ = parts(card(model("org/a", "c0ffee"), model("hf:org/b", "beef"), model("m/local")))
    assert front["base_model"] == ["org/a", "org/b"]
    assert front["base_model_relation"] == "merge"


def test_local_models_are_not_linked() -> None:
    front, _, _ = parts(card(model("m/a")))
    assert front == {"library_name": "transformers", "tags": ["mergecore", "merge"]}


def test_no_local_path_is_told() -> None:
    document: dict[str, Json] = {"merge_method": "linear", "models": [{"model": "/home/me/models/a"}]}
    text = card(
        model("/home/me/models/a"), model("org/b", "c0ffee", adapter="/home/me/lora"), document=document
    )
    assert "/home" not in text
    assert "/cache" not in text
    _, between, config = parts(text)
    assert between[4:6] == ["* `a`", "* `org/b+lora`"]
    assert config["models"] == [{"model": "a"}]


def test_what_the_command_line_added_is_told_beside_the_config() -> None:
    """The config can be used again as it stands."""
    document: dict[str, Json] = {**CONFIG, "command_line": {"missing": "base", "shard_size": 1000}}
    text = card(model("m/a"), document=document)
    assert "with this config and `--missing base --shard-size 1000`:" in text
    assert parts(text)[2] == CONFIG


def test_a_model_with_adapters_names_its_base_and_each_of_them() -> None:
    """Their licences count, too; a base that only the adapter names is named."""
    adapter = replace(model("org/lora", "beef"), about={"license": "mit"})
    local = replace(model("/home/me/lora"), folder=Path("/home/me/lora"))
    named = ModelReference(
        "org/base", adapters=(AdapterReference("org/lora"), AdapterReference("/home/me/lora"))
    )
    alone = replace(named, path="")
    text = card(
        replace(
            model("", "c0ffee"),
            reference=alone,
            full_reference=named,
            parts=(adapter, local),
            about={"license": "apache-2.0"},
        )
    )
    front, lines, _ = parts(text)
    assert front["base_model"] == ["org/base", "org/lora"]
    assert "license" not in front
    assert "* `org/base+org/lora+lora`" in lines
    assert lines[-6:-3] == [
        "* `org/base`: `apache-2.0`",
        "* `org/lora`: `mit`",
        "* `lora`: `its card states none`",
    ]


def test_what_is_no_merge_is_said_in_its_own_words() -> None:
    request = SideFileRequest(
        models=(model("m/a"), model("/home/me/`b`")),
        title="Adapter",
        document=CONFIG,
        summary="Taken from {0} and {1}.",
    )
    content = model_card(without_paths(request), NoParams()).files["README.md"]
    assert isinstance(content, bytes)
    assert "# Adapter\n\nTaken from `m/a` and `` `b` ``.\n\nThe config:\n\n```yaml\n" in content.decode()


EVIL = [
    "x\n---\nlicense: mit\n---\n# Mine",
    "```\n</pre><script>alert(1)</script>",
    "`````",
    "a`b``c",
    "[click](http://evil.example)",
    "<img src=x onerror=alert(1)>",
    "x\x1b[31mred\x07",
    "' \" : { [ % & * ! | > @ ",
    "# heading",
    "a\u2028b\u202ec",
]


@pytest.mark.parametrize("name", EVIL)
def test_no_name_can_end_what_it_stands_in(name: str) -> None:
    document: dict[str, Json] = {"merge_method": "linear", "name": name, "models": [{"model": name}]}
    text = card(model(name), model(name, "c0ffee"), title=name, document=document)
    front, between, config = parts(text)
    assert front == {"library_name": "transformers", "tags": ["mergecore", "merge"]}
    assert config == document
    assert between[0].startswith("# ")
    assert [line[:2] for line in between if line] == ["# ", "Th", "* ", "* ", "wi"]
    assert "\x1b" not in text
    assert "<" not in between[0].replace("\\<", "")


@given(st.text(max_size=40))
def test_any_name_leaves_the_card_as_it_is_built(name: str) -> None:
    document: dict[str, Json] = {"merge_method": "linear", "models": [{"model": name}]}
    front, between, config = parts(card(model(name or "x"), title=name, document=document))
    assert set(front) == {"library_name", "tags"}
    assert config["merge_method"] == "linear"
    assert [line[:2] for line in between if line] == ["# ", "Th", "* ", "wi"]


def test_a_name_in_code_shows_as_it_is() -> None:
    assert "* `` a`b ``\n" in card(model("a`b"))
    assert "* ``` `` ```\n" in card(model("``"))


def test_a_title_shows_as_it_is() -> None:
    assert "# a\\*b\\_c \\<d\\> \\&amp; \\[e\\]" in card(model("m"), title="a*b_c <d> &amp; [e]")


# ---- what the models say of themselves ---------------------------------------------------------------------


def stating(path: str, text: str, **more: Any) -> Checkpoint:
    return replace(model(path), about=card_data(f"---\n{text}\n---\n"), **more)


def test_one_licence_and_all_languages_are_carried() -> None:
    front, lines, _ = parts(
        card(
            stating("m/a", "license: Apache-2.0\nlanguage: [en, no]\npipeline_tag: fill-mask"),
            stating("m/b", "license: apache-2.0\nlanguage: de\npipeline_tag: fill-mask"),
        )
    )
    assert front["license"] == "apache-2.0"
    assert front["language"] == ["en", "no", "de"]
    assert front["pipeline_tag"] == "fill-mask"
    assert not any("licence" in line for line in lines)


def test_a_licence_of_its_own_name_keeps_name_and_link() -> None:
    text = "license: other\nlicense_name: llama3\nlicense_link: LICENSE"
    front, _, _ = parts(card(stating("m/a", text), stating("m/b", text)))
    assert {key: front[key] for key in front if key.startswith("license")} == {
        "license": "other",
        "license_name": "llama3",
        "license_link": "LICENSE",
    }


def test_licences_that_differ_are_left_to_the_user_to_choose() -> None:
    text = "license: other\nlicense_name: llama`3"
    front, lines, _ = parts(card(stating("m/a", "license: mit"), stating("m/b", text), model("m/c")))
    assert "license" not in front
    assert "choose one that the licences of all of them allow" in " ".join(lines)
    assert lines[-6:-3] == [
        "* `m/a`: `mit`",
        "* `m/b`: `` other (llama`3) ``",
        "* `m/c`: `its card states none`",
    ]


@pytest.mark.parametrize(
    ("side_files", "config", "library"),
    [
        ({"modules.json": Path("modules.json")}, {}, "sentence-transformers"),
        ({}, {"_class_name": "UNet2DConditionModel"}, "diffusers"),
        ({}, {"pretrained_cfg": {}}, "timm"),
        ({}, {"model_type": "llama"}, "transformers"),
    ],
)
def test_the_library_is_the_one_that_loads_the_files(
    side_files: dict[str, Path], config: dict[str, Json], library: str
) -> None:
    front, _, _ = parts(card(replace(model("m/a"), side_files=side_files, config=config)))
    assert front["library_name"] == library


@pytest.mark.parametrize(
    "text",
    [
        "",
        "license: mit",
        "---\nlicense: [\n---\n",
        "---\n- a\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "---\n!!python/object/apply:os.system [echo]\n---\n",
    ],
)
def test_a_card_that_cannot_be_read_says_nothing(text: str) -> None:
    assert card_data(text) == {}


def test_a_language_is_no_bool_and_windows_lines_are_lines() -> None:
    assert card_data("---\r\nlanguage: no\r\nlicense: 1.0\r\n---\r\nx") == {
        "language": "no",
        "license": 1.0,
    }
