"""Plugins of other packages, each a folder with its own metadata, driven by a config and the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from fixture_types import Cli, WriteModel
from safetensors.torch import load_file
from third_parties import FOLDER, Install, Write, refusal, write_vocabulary

pytestmark = pytest.mark.usefixtures("install")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.py")), ids=lambda path: path.stem)
def test_they_are_short(path: Path) -> None:
    """And import from the doors only, as `test_doors.py` checks."""
    assert len(path.read_text(encoding="utf8").splitlines()) < 40


# ---- a tokenizer strategy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "name", "template"),
    [
        ({"tokenizer_source": "nth"}, "a", True),
        ({"tokenizer": {"source": "nth", "number": 2}}, "b", True),
        ({"tokenizer": {"strategy": "nth", "number": 2, "templates": False}}, "b", False),
        ({"tokenizer": {"strategy": "nth", "number": None}}, "a", True),
    ],
)
def test_a_tokenizer_strategy_is_chosen_by_its_name_with_parameters(
    install: Install, config: Write, cli: Cli, said: dict[str, object], name: str, template: bool
) -> None:
    install("nth")
    outcome = cli("merge", config(**said), "out")
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("out/tokenizer_config.json").read_text())["name"] == name
    assert Path("out/chat_template.jinja").exists() == template


def test_what_is_wrong_with_the_parameters_of_a_strategy_is_said_with_its_place(
    install: Install, config: Write, cli: Cli
) -> None:
    install("nth")
    path = config()
    path.write_text(path.read_text() + "tokenizer: {source: nth, nubmer: 1, number: 0, tokns: {}}\n")
    assert refusal(cli, "plan", path) == [
        "mergecore: error E109: config.yml:9:26: the tokenizer strategy 'nth' has no parameter 'nubmer'; "
        "did you mean 'number'?",
        "mergecore: error E105: config.yml:9:45: parameter 'number' is 0; a whole number at least 1 is expected",
        "mergecore: error E103: config.yml:9:48: unknown key 'tokns' in the tokenizer; did you mean 'tokens'?",
    ]


def test_a_folder_of_the_name_of_a_strategy_is_meant_only_as_a_path(
    install: Install, config: Write, cli: Cli, write_model: WriteModel
) -> None:
    write_model(Path("nth"), 7.0)
    write_vocabulary(Path("nth"), "dcba")
    for name in "ab":
        write_vocabulary(Path(name), "abcd")
    assert cli("merge", config(tokenizer_source="nth"), "before").code == 0  # nothing else is called so
    install("nth")
    [line] = refusal(cli, "plan", config(tokenizer_source="nth"))
    assert "E112: config.yml:9:19: 'nth' is a tokenizer strategy, and a folder here" in line
    assert "Hint: write './nth' for the folder, or 'tokenizer: {strategy: nth}'" in line
    assert cli("merge", config(tokenizer_source="./nth"), "folder").code == 0
    assert cli("merge", config(tokenizer={"strategy": "nth"}), "strategy").code == 0
    vocabularies = [Path(name, "tokenizer.json").read_bytes() for name in ("before", "folder")]
    assert vocabularies == [Path("nth/tokenizer.json").read_bytes()] * 2
    assert json.loads(Path("strategy/tokenizer_config.json").read_text())["name"] == "a"


def test_a_folder_called_union_does_not_change_what_union_means(
    config: Write, cli: Cli, write_model: WriteModel
) -> None:
    for name in ("a", "b"):
        write_vocabulary(Path(name), "abcd")
    write_model(Path("union"), 7.0)
    assert cli("merge", config(tokenizer_source="union"), "out").code == 0
    outcome = cli("plan", config(tokenizer_source="union"))
    assert "'union' is a tokenizer strategy, and a folder here. Hint: write './union'" in outcome.out
    assert cli("plan", config(tokenizer_source="union"), "--strict").code == 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            {"strategy": "model"},
            "E104: config.yml:10:13: the tokenizer strategy 'model' needs a model. "
            "Hint: write {strategy: model, source: MODEL}",
        ),
        (
            {"strategy": "union", "source": "./a"},
            "E104: config.yml:11:11: the tokenizer strategy 'union' takes no source. "
            "Hint: remove 'source', or 'strategy'",
        ),
        (
            {"strategy": "unoin"},
            "E108: config.yml:10:13: unknown tokenizer strategy 'unoin'; did you mean 'union'?",
        ),
    ],
)
def test_a_strategy_gets_a_model_if_it_asks_for_one(
    config: Write, cli: Cli, said: dict[str, object], told: str
) -> None:
    [line] = refusal(cli, "plan", config(tokenizer=said))
    assert line.startswith(f"mergecore: error {told}")


def test_a_blocked_strategy_is_not_taken_for_a_model(config: Write, cli: Cli) -> None:
    [line] = refusal(cli, "plan", config(tokenizer_source="union"), "--no-plugin", "union")
    assert "error E607: config.yml:9:19: tokenizer strategy 'union' comes with 'mergecore'" in line


# ---- an output writer --------------------------------------------------------------------------------------


def test_an_output_writer_has_parameters(install: Install, config: Write, cli: Cli) -> None:
    install("raw")
    output = {"writer": "raw", "limit": "0.05KB", "ending": "num"}
    outcome = cli("merge", config(output=output), "out")
    assert outcome.code == 0, outcome.err
    files = sorted(Path("out").glob("*.num"), key=lambda path: int(path.stem))
    assert sum(path.stat().st_size for path in files) == 4 * (8 + 8 + 6 * 4 + 2)  # float32
    assert all(path.stat().st_size <= 50 for path in files)
    numbers = torch.cat(
        [torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.float32) for path in files]
    )
    assert numbers.unique().tolist() == [2.0]  # (1 + 3) / 2
    assert cli("verify", "out").code == 0


@pytest.mark.parametrize(
    ("output", "options", "told"),
    [
        (
            "{writer: raw, limti: 1KB}",
            (),
            [
                "E109: config.yml:9:23: the output writer 'raw' has no parameter 'limti'; did you mean 'limit'?"
            ],
        ),
        (
            "{writer: raw, shard_size: 1KB}",
            (),
            [
                "E109: config.yml:9:23: the output writer 'raw' has no parameter 'shard_size'. "
                "Hint: its parameters: limit, ending"
            ],
        ),
        ("{writer: raw, limit: 5XB}", (), ["E105: config.yml:9:30: '5XB' is not a size. Hint: write for"]),
        (
            "{writer: raw, ending: B.N}",
            (),
            ["E105: config.yml:9:31: parameter 'ending' is 'B.N'; text is exp"],
        ),
        (
            "{writer: raw, ending: 7}",
            (),
            ["E104: config.yml:9:31: parameter 'ending' is 7; text is expected"],
        ),
        (
            "{writer: raw}",
            ("--shard-size", "1GB"),
            [
                "E109: --shard-size: the output writer 'raw' has no parameter 'shard_size'. Hint: its parameters"
            ],
        ),
        (
            "{writer: raw, limti: 1KB}",
            ("--shard-size", "1GB"),
            [
                "E109: --shard-size: the output writer",
                "E109: config.yml:9:23: the output writer 'raw' has no",
            ],
        ),
        (
            "{writer: rwa}",
            (),
            ["E606: config.yml:9:18: output writer 'rwa': no installed plugin provides it"],
        ),
    ],
)
def test_what_is_wrong_with_the_parameters_of_a_writer_is_no_fault_of_the_plugin(
    install: Install, config: Write, cli: Cli, output: str, options: tuple[str, ...], told: list[str]
) -> None:
    install("raw")
    path = config()
    path.write_text(f"{path.read_text()}output: {output}\n")
    lines = refusal(cli, "plan", path, *options)
    shown = [
        line.removeprefix("mergecore: error ")[: len(one)] for line, one in zip(lines, told, strict=True)
    ]
    assert shown == told


def test_a_number_that_is_written_as_text_is_a_warning(install: Install, config: Write, cli: Cli) -> None:
    install("nth")
    outcome = cli("plan", config(tokenizer={"strategy": "nth", "number": "2"}))
    assert outcome.code == 0
    assert "parameter 'number' is the text '2', which counts as 2. Hint: write 2" in outcome.out


# ---- an executor -------------------------------------------------------------------------------------------


def test_an_executor_has_parameters_and_changes_no_byte(install: Install, config: Write, cli: Cli) -> None:
    install("logged")
    assert cli("merge", config(), "threads").code == 0
    said = {"name": "logged", "file": "log.txt", "backwards": True}
    outcome = cli("merge", config(executor=said), "logged")
    assert outcome.code == 0, outcome.err
    assert sorted(Path("log.txt").read_text().split()) == sorted(load_file("threads/model.safetensors"))
    for path in Path("threads").iterdir():  # the manifest and the card, too
        assert Path("logged", path.name).read_bytes() == path.read_bytes(), path.name


def test_an_executor_is_chosen_on_the_command_line(install: Install, config: Write, cli: Cli) -> None:
    install("logged")
    said = {"name": "logged", "file": "log.txt"}
    assert cli("merge", config(executor=said), "one", "--executor", "threads").code == 0
    assert not Path("log.txt").exists()
    assert cli("merge", config(executor=said), "two", "--executor", "logged").code == 0
    assert Path("log.txt").exists()
    [line] = refusal(cli, "merge", config(), "three", "--executor", "logged")
    assert "E105: missing required parameter 'file' of the executor 'logged'" in line
    assert "Hint: write 'executor: {name: logged, file: …}'" in line
    assert not Path("three").exists()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("logged", "E105: config.yml:9:11: missing required parameter 'file' of the executor 'logged'"),
        ("threds", "E108: config.yml:9:11: unknown executor 'threds'; did you mean 'threads'?"),
        ("{name: threads, file: x}", "E109: config.yml:9:27: the executor 'threads' has no parameter 'file'"),
        ("[logged]", "E104: config.yml:9:11: 'executor' is ['logged']; a mapping is expected"),
    ],
)
def test_what_is_wrong_with_an_executor_is_said_in_the_plan(
    install: Install, config: Write, cli: Cli, said: str, told: str
) -> None:
    install("logged")
    path = config()
    path.write_text(f"{path.read_text()}executor: {said}\n")
    [line] = refusal(cli, "plan", path)
    assert line.startswith(f"mergecore: error {told}")


# ---- a model source ----------------------------------------------------------------------------------------


def test_a_source_opens_another_model_with_the_same_plugins(
    install: Install, config: Write, cli: Cli
) -> None:
    install("copy_of")
    models = [{"model": name, "parameters": {"weight": 1}} for name in ("./a", "copy-of:copy-of:./b")]
    assert cli("merge", config(models=models), "out").code == 0
    assert {
        value for one in load_file("out/model.safetensors").values() for value in one.unique().tolist()
    } == {
        2.0  # (1 + 3) / 2
    }
    [line] = refusal(cli, "plan", config(models=models[1:]), "--no-plugin", "local")
    assert "E701: config.yml:3:10: './b': no installed plugin opens it" in line
    assert "local (blocked)" in line


def test_a_model_that_is_made_from_itself_is_refused(
    write_model: WriteModel, config: Write, cli: Cli
) -> None:
    code = (FOLDER / "copy_of" / "copy_of.py").read_text()
    folder = Path("plug")
    (folder / "loop-1.0.dist-info").mkdir(parents=True)
    (folder / "loop-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: loop\nVersion: 1.0\n"
    )
    (folder / "loop-1.0.dist-info" / "entry_points.txt").write_text("[mergecore]\ncopy_of = loop\n")
    (folder / "loop.py").write_text(code.replace("reference.path.removeprefix(PREFIX)", "reference"))
    sys.path.insert(0, str(folder.resolve()))
    try:
        lines = refusal(cli, "plan", config(models=[{"model": "copy-of:./b", "parameters": {"weight": 1}}]))
    finally:
        sys.path.pop(0)
    assert "'copy-of:./b' is made from itself: copy-of:./b → copy-of:./b" in lines[0]


# ---- a recipe ----------------------------------------------------------------------------------------------


def test_a_recipe_makes_a_plan_of_a_document_of_its_own(install: Install, config: Write, cli: Cli) -> None:
    install("soup")
    path = config()
    path.write_text("soup: [./a, ./b]\n")
    assert cli("merge", path, "out").code == 0
    assert load_file("out/model.safetensors")["model.norm.weight"].tolist() == [2.0, 2.0]
    path.write_text("soup: ./a\n")
    [line] = refusal(cli, "plan", path)
    assert line == "mergecore: error E104: config.yml:1:7: 'soup' is './a'; a list is expected"


# ---- what users see of parameters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "raw",
            ["output writer 'raw'", "limit        size in (0, ∞), default 1000000", "bytes of a file before"],
        ),
        (
            "nth",
            ["tokenizer strategy 'nth'", "number       whole number in [1, ∞), default 1", "which of the"],
        ),
        (
            "logged",
            ["executor 'logged'", "file         text, required", "backwards    true or false, default false"],
        ),
        ("bill", ["side file 'bill'", "file         text", "tensors      true or false, default true"]),
        ("union", ["tokenizer strategy 'union'", "compat       'mergekit' or none, default none"]),
        ("threads", ["executor 'threads'", "    none"]),
        ("ties", ["merge method 'ties'", "number in [0, 1], per model, default 1"]),
    ],
)
def test_the_parameters_of_a_plugin_are_shown(
    install: Install, cli: Cli, name: str, lines: list[str]
) -> None:
    if (FOLDER / name).exists():
        install(name)
    outcome = cli("plugins", "show", name)
    assert outcome.code == 0
    for line in lines:
        assert line in outcome.out


def test_the_schema_has_the_parameters_of_what_is_installed(install: Install, cli: Cli) -> None:
    install("raw")
    tree = json.loads(cli("schema").out)
    branches = {
        json.dumps(one["if"]): one["then"] for one in tree["allOf"] if "output" in one["if"]["properties"]
    }
    assert {
        json.loads(when)["properties"]["output"]["properties"]["writer"]["const"] for when in branches
    } == {
        "safetensors",
        "peft",
        "raw",
    }
    raw = next(then for when, then in branches.items() if '"raw"' in when)["properties"]["output"]
    assert set(raw["properties"]) == {"writer", "limit", "ending"}
    assert raw["additionalProperties"] is False
    install("bill")
    files = json.loads(cli("schema").out)["properties"]["side_files"]["properties"]
    assert set(files) == {"model_card", "licences", "sentence_transformers", "bill"}
    assert set(files["bill"]["properties"]) == {"file", "tensors"}
    assert raw["properties"]["limit"]["anyOf"][0]["type"] == ["string", "integer"]
