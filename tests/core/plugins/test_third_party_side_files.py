"""A side file of another package, driven by a config and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import Cli, WritePlugin
from third_parties import Install, Write, refusal, write_vocabulary

pytestmark = pytest.mark.usefixtures("install")


# ---- a side file -------------------------------------------------------------------------------------------

PARTS = {"bill": {"file": "parts.json", "tensors": False}}


def test_a_side_file_is_made_where_a_config_asks_for_it(install: Install, config: Write, cli: Cli) -> None:
    assert cli("merge", config(), "before").code == 0
    install("bill")
    assert cli("merge", config(), "installed").code == 0
    assert files_of("installed") == files_of("before")
    for said in (True, None, {}, {"file": "bill.json"}):
        assert cli("merge", config(side_files={"bill": said}, name="two"), "out", "--overwrite").code == 0
        assert files_of("out").keys() - files_of("before").keys() == {"bill.json"}
        told = json.loads(Path("out/bill.json").read_text())
        assert (told["title"], told["made_by"], told["models"]) == ("two", "linear", ["./a", "./b"])
        assert told["tensors"]["lm_head.weight"] == ["./a", "./b"]
    assert cli("verify", "out").code == 0
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())
    assert manifest["plugins"]["bill"] == "bill 1.0"
    assert cli("merge", config(side_files=PARTS), "out", "--overwrite").code == 0
    assert "tensors" not in json.loads(Path("out/parts.json").read_text())


def test_a_recipe_has_side_files_too(install: Install, config: Write, cli: Cli) -> None:
    install("bill")
    path = config()
    for name in "ab":
        write_vocabulary(Path(name), "abcd")
    path.write_text(
        "transplant: {model: ./a, donor: ./b, method: mean}\nside_files: {bill: true, model_card: false}\n"
    )
    outcome = cli("merge", path, "out")
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("out/bill.json").read_text())["made_by"] == "transplant (mean)"
    assert not Path("out/README.md").exists()


def files_of(folder: str) -> dict[str, bytes]:
    """What is in a folder, but for the manifest."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if "manifest" not in path.name}


def test_built_in_side_files_can_be_left_out_or_blocked(config: Write, cli: Cli) -> None:
    Path("b/LICENSE").write_text("of b")
    assert cli("merge", config(), "all").code == 0
    assert {"README.md", "LICENSE"} <= files_of("all").keys()
    said = {"model_card": False, "licences": False}
    assert cli("merge", config(side_files=said), "none").code == 0
    assert files_of("all").keys() - files_of("none").keys() == {"README.md", "LICENSE"}
    said = {"model_card@mergecore": False, "licences@mergecore": True}
    assert cli("merge", config(side_files=said), "named").code == 0
    assert files_of("all").keys() - files_of("named").keys() == {"README.md"}
    assert cli("merge", config(), "blocked", "--no-plugin", "model_card").code == 0
    assert "README.md" not in files_of("blocked")
    [line] = refusal(cli, "plan", config(chat_template="chatml"), "--no-plugin", "chat_templates")
    assert "E105: config.yml:9:16: 'chatml' is not a known chat template" in line


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("{bil: true}", "E108: config.yml:9:19: unknown side file 'bil'; did you mean 'bill'?"),
        (
            "{model_crad: true}",
            "E108: config.yml:9:26: unknown side file 'model_crad'; did you mean 'model_card'?",
        ),
        (
            "{model_crad: false}",
            "E108: config.yml:9:26: unknown side file 'model_crad'; did you mean 'model_card'?",
        ),
        (
            "{bill: {fiel: x}}",
            "E109: config.yml:9:21: the side file 'bill' has no parameter 'fiel'; did you mean 'file'?",
        ),
        ("{bill: {file: 'a/b'}}", "E105: config.yml:9:27: parameter 'file' is 'a/b'; text is expected"),
        (
            "{chatml: true}",
            "E105: config.yml:9:22: 'chatml' is chosen by 'chat_template: chatml'. Hint: write that in place of it",
        ),
        ("[bill]", "E104: config.yml:9:13: 'side_files' is ['bill']; a mapping is expected"),
        ("{bill: 1}", "E104: config.yml:9:20: 'side_files.bill' is 1; true, false or a mapping is expected"),
    ],
)
def test_what_is_wrong_with_side_files_is_said_in_the_plan(
    install: Install, config: Write, cli: Cli, said: str, told: str
) -> None:
    install("bill")
    path = config()
    path.write_text(f"{path.read_text()}side_files: {said}\n")
    [line] = refusal(cli, "plan", path)
    assert line.startswith(f"mergecore: error {told}")


SIDE_FILES = """
from mergecore import SideFile, hookimpl
from mergecore.types import SideFiles

def make(request, params):
    return WHAT

@hookimpl
def mergecore_side_files():
    yield SideFile(name="mine", make=make, rank=95)
    yield SideFile(name="spoken", make=make, chosen_by="chat_template")
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("SideFiles({'README.md': b''})", "E605: the side files 'model_card' and 'mine' both make README.md"),
        (
            "SideFiles({'config.json': b''})",
            "E605: the side file 'mine' makes config.json, which follows from",
        ),
        ("SideFiles({'../x': b''})", "E301: the side file '../x' would be written outside the output folder"),
        (
            "SideFiles({'model.safetensors': b''})",
            "E402: the side file 'model.safetensors' would replace a file",
        ),
        (
            "SideFiles({'x': 'text'})",
            "E605: the side file 'mine' makes x of a str; bytes or a path are expected",
        ),
        (
            "request.config.clear() or SideFiles({'README.md': b''})",
            "E605: the side files 'model_card' and 'mine'",
        ),
        ("{'x': b''}", "E605: the side file 'mine' returns dict in place of SideFiles"),
        (
            "1 / 0",
            "E604: side file 'mine' of plugin 'mine' (mine 1.0) failed: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_a_side_file_that_breaks_the_rules_is_refused_before_anything_is_merged(
    write_plugin: WritePlugin, config: Write, cli: Cli, what: str, told: str
) -> None:
    write_plugin("mine", SIDE_FILES.replace("WHAT", what))
    [line] = refusal(cli, "plan", config(side_files={"mine": True}))
    assert line.startswith(f"mergecore: error {told}")


def test_a_side_file_may_need_a_parameter(write_plugin: WritePlugin, config: Write, cli: Cli) -> None:
    needs = "from mergecore import Params\n\nclass Needs(Params):\n    who: str\n\n"
    code = SIDE_FILES.replace("WHAT", "SideFiles({'who.txt': params.who.encode()})")
    write_plugin("mine", needs + code.replace("make=make, rank=95", "make=make, params=Needs"))
    [line] = refusal(cli, "plan", config(side_files={"mine": True}))
    told = "E105: config.yml:10:9: missing required parameter 'who' of the side file 'mine'"
    assert line == f"mergecore: error {told}. Hint: write 'side_files: {{mine: {{who: …}}}}'"
    assert cli("merge", config(side_files={"mine": {"who": "me"}}), "out").code == 0
    assert Path("out/who.txt").read_text() == "me"


def test_a_chat_template_of_another_package_is_chosen_by_its_name(
    write_plugin: WritePlugin, config: Write, cli: Cli
) -> None:
    write_plugin("mine", SIDE_FILES.replace("WHAT", "SideFiles({'chat_template.jinja': b'{{ messages }}!'})"))
    for name in ("spoken", "spoken@mine"):
        outcome = cli("merge", config(chat_template=name), "out", "--overwrite")
        assert outcome.code == 0, outcome.err
        assert Path("out/chat_template.jinja").read_bytes() == b"{{ messages }}!"
        assert json.loads(Path("out/tokenizer_config.json").read_text())["chat_template"] == "{{ messages }}!"
    [line] = refusal(cli, "plan", config(chat_template="mine"))
    assert "E105: config.yml:9:16: 'mine' is not a known chat template" in line


def test_a_chat_template_that_makes_another_file_is_refused(
    write_plugin: WritePlugin, config: Write, cli: Cli
) -> None:
    write_plugin("mine", SIDE_FILES.replace("WHAT", "SideFiles({'x': b''})"))
    [line] = refusal(cli, "plan", config(chat_template="spoken"))
    assert "E605: the chat template 'spoken' makes x, not chat_template.jinja" in line
