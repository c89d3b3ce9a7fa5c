"""What the benchmark measures, how it calls tools, and what it reports."""

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
import yaml
from benchmarks.checkpoints import LlamaShape, parse_count, shape_for, write_set
from benchmarks.measure import Memory, Usage, measure, parse_io, parse_memory
from benchmarks.methods import CASES, config_for, inputs_of
from benchmarks.report import Kind, Run, as_json, markdown, summarise
from benchmarks.runner import main
from benchmarks.tools import fault_of, find_tools, parse_tool, variants, version_of
from click.testing import CliRunner

SHAPE = LlamaShape(hidden=8, intermediate=12, layers=1, heads=2, key_value_heads=1, vocabulary=30, tied=True)
USAGE = Usage(0, 4.0, 5.0, 1.0, 100_000_000, 200_000_000, 4_000_000_000, 2_000_000_000, 0, 0, 10, "")
# Copies the config's base to the output, as a tool would that ignores the other models.
COPY = (
    "import sys, shutil, yaml; shutil.copytree(yaml.safe_load(open(sys.argv[1]))['base_model'], sys.argv[2])"
)
COPY_TOOL = f"copy={shlex.join([sys.executable, '-c', COPY])} {{config}} {{out}}"


def run(kind: Kind, label: str, cpu: float, wall: float, repeat: int = 0, fault: str | None = None) -> Run:
    usage = replace(USAGE, user=cpu, system=0.0, wall=wall, exit_code=1 if fault else 0, output_tail="words")
    return Run(kind, "1B", "linear", label, repeat, 0.0, usage, fault)


def test_memory_is_read_from_a_status_file() -> None:
    text = "Name:\tcat\nVmRSS:\t  900 kB\nRssAnon:\t  104 kB\nThreads:\t1\n"
    assert parse_memory(text) == Memory(104 * 1024, 900 * 1024)
    assert parse_memory("Name:\tcat\nState:\tZ (zombie)\n") == Memory(0, 0)


def test_counters_are_read_from_an_io_file() -> None:
    assert parse_io("rchar: 12\nwchar: 3\n") == {"rchar": 12, "wchar": 3}


def test_a_measured_command_shows_memory_bytes_and_time_of_its_children(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1_000_000)
    child = "import time; x = bytearray(60_000_000); time.sleep(0.3)"
    used = measure(["sh", "-c", f"{sys.executable} -c '{child}'; cat {file}; exit 3"])
    assert used.exit_code == 3
    assert used.wall >= 0.3
    assert used.cpu > 0
    assert used.peak_anonymous >= 60_000_000
    assert used.peak_resident >= 60_000_000
    assert used.read_chars >= 1_000_000
    assert used.written_chars >= 1_000_000


def test_a_command_that_takes_too_long_is_killed() -> None:
    assert measure(["sleep", "60"], timeout=0.1).exit_code == -9


def test_the_environment_of_a_command_is_extended() -> None:
    used = measure(["sh", "-c", "echo $HF_HUB_OFFLINE$HOME"], {"HF_HUB_OFFLINE": "1"})
    assert used.output_tail == f"1{os.environ['HOME']}\n"


def test_a_config_lists_the_models_a_method_reads() -> None:
    base, models = Path("base"), [Path("a"), Path("b"), Path("c")]
    assert config_for("linear", base, models)["models"] == [
        {"model": "a", "parameters": {"weight": 0.6}},
        {"model": "b", "parameters": {"weight": 0.4}},
        {"model": "c", "parameters": {"weight": 0.3}},
    ]
    assert config_for("slerp", base, models) == {
        "merge_method": "slerp",
        "base_model": "base",
        "models": [{"model": "base"}, {"model": "a"}],
        "parameters": {"t": 0.4},
        "dtype": "bfloat16",
        "out_dtype": "bfloat16",
    }
    assert inputs_of("slerp", base, models) == [base, models[0]]
    assert inputs_of("linear", base, models) == models


@pytest.mark.parametrize("method", CASES)
def test_every_config_names_as_many_models_as_are_read(method: str) -> None:
    base, models = Path("base"), [Path("a"), Path("b"), Path("c")]
    config = yaml.safe_load(yaml.safe_dump(config_for(method, base, models, "float32")))
    named = {entry["model"] for entry in config["models"]} | {config.get("base_model")} - {None}
    assert named == {str(path) for path in inputs_of(method, base, models)}
    assert (config["dtype"], config["out_dtype"]) == ("float32", "bfloat16")


def test_a_tool_gets_the_usual_arguments_unless_it_names_its_own() -> None:
    usual = parse_tool("mergekit=/venv/bin/mergekit-yaml")
    assert usual.command(Path("c.yml"), Path("out"), 2) == [
        "/venv/bin/mergekit-yaml", "c.yml", "out", "-j", "2",
    ]  # fmt: skip
    own = parse_tool("other=merge --to {out} {config}")
    assert own.command(Path("c.yml"), Path("out"), None) == ["merge", "--to", "out", "c.yml"]
    assert [variant.label for variant in variants([usual, own], [1, 2])] == [
        "mergekit -j 1", "mergekit -j 2", "other",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["/bin/mergekit-yaml", "mergekit=", "=/bin/mergekit-yaml"])
def test_a_tool_without_name_or_command_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=COMMAND"):
        parse_tool(text)


def test_a_known_tool_on_path_is_found_and_one_that_was_given_comes_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "mergekit-yaml"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [tool.words[0] for tool in find_tools([])][1:] == [str(script)]
    assert [tool.words[0] for tool in find_tools(["mergekit=/other"])][1:] == ["/other"]


def test_the_version_of_an_unknown_distribution_is_unknown() -> None:
    assert version_of(parse_tool("no-such-distribution=/nowhere/tool")) == "unknown"
    assert version_of(parse_tool(f"pytest={sys.executable}")) == pytest.__version__


def test_an_output_without_a_tensor_or_with_a_short_file_is_at_fault(tmp_path: Path) -> None:
    folder = write_set(tmp_path, SHAPE, 1).base
    expected = SHAPE.tensors()
    assert fault_of(folder, expected) is None
    assert fault_of(folder, {**expected, "extra": (2,)}) == (
        "1 of 12 tensors are missing or differ in shape or dtype, first extra"
    )
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "11 of 11 tensors are missing" in (fault_of(folder, expected) or "")


def test_a_line_holds_medians_without_start_up() -> None:
    runs: list[Run] = []
    for repeat, (before, cpu, wall) in enumerate([(1.0, 4.0, 3.0), (2.0, 8.0, 5.0), (1.0, 5.0, 4.0)]):
        runs += [
            run("startup", "mergecore -j 2", before, 1.0, repeat),
            run("merge", "mergecore -j 2", cpu, wall, repeat),
        ]
    (line,) = summarise(runs, {"1B": 1_000_000_000})
    # Differences 3, 6 and 4 CPU seconds over 1e9 parameters.
    assert (line.ns, line.ns_low, line.ns_high) == (4.0, 3.0, 6.0)
    assert (line.wall, line.startup_wall, line.net_wall) == (4.0, 1.0, 3.0)
    assert (line.cpu, line.startup_cpu) == (5.0, 1.0)


def test_the_table_compares_tools_and_threads_and_shows_failures() -> None:
    runs = [
        run("startup", "mergecore -j 1", 1.0, 1.0),
        run("merge", "mergecore -j 1", 3.0, 5.0),
        run("startup", "mergecore -j 2", 1.0, 1.0),
        run("merge", "mergecore -j 2", 3.0, 3.0),
        run("startup", "slow", 5.0, 5.0),
        run("merge", "slow", 25.0, 15.0),
        run("startup", "even -j 1", 1.0, 1.0),
        run("merge", "even -j 1", 3.0, 5.0),
        run("startup", "broken", 1.0, 1.0),
        run("merge", "broken", 1.0, 1.0, fault="exit code 1: a | b"),
        run("plan", "mergecore", 1.0, 1.5),
        run("floor", "copy 1 (cp)", 0.5, 0.25),
    ]
    lines = summarise(runs, {"1B": 1_000_000_000})
    table = markdown(lines, runs, {"cores": 2}, {"repeats": 1})
    assert "| linear | slow / mergecore -j 2 | 10.00x | 10.00x | 5.00x | 5.00x |" in table
    assert "| linear | even -j 1 / mergecore -j 1 | 1.00x | 1.00x | 1.00x | 1.00x |" in table
    assert "| linear | mergecore -j 1 / mergecore -j 2 | 2.00x |" in table
    assert r"| linear | broken | **failed**: exit code 1: a \| b |" in table
    assert "broken / mergecore" not in table
    assert "| copy 1 (cp) | 0.25 | 0.50 |" in table
    assert "| 1B | linear | 1.50 | 1.00 | 100 |" in table
    document = json.loads(as_json(lines, runs, {"cores": 2}, {"repeats": 1}))
    tails = {single["label"]: single["usage"].get("output_tail") for single in document["runs"]}
    assert (tails["slow"], tails["broken"]) == (None, "words")


def test_a_run_writes_both_reports_and_leaves_no_output(tmp_path: Path) -> None:
    options = ["--no-mergecore", "--parameters", "0.2M", "--methods", "slerp,linear", "--repeats", "1"]
    folders = ["--workdir", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    done = CliRunner().invoke(main, [*options, *folders, "--tool", COPY_TOOL], catch_exceptions=False)
    assert done.exit_code == 0
    table = (tmp_path / "results" / "benchmark.md").read_text()
    assert table in done.output
    assert "| slerp | copy |" in table
    assert "| linear | copy | **failed**: exit code 1: KeyError: 'base_model' |" in table
    document = json.loads((tmp_path / "results" / "benchmark.json").read_text())
    lines = document["lines"]
    assert [line["method"] for line in lines] == ["slerp", "linear"]
    floors = [single["usage"] for single in document["runs"] if single["kind"] == "floor"]
    inputs = 2 * shape_for(parse_count("0.2M")).parameters()
    assert [usage["read_chars"] // inputs for usage in floors] == [2, 3, 1]
    assert [usage["write_bytes"] for usage in floors[:2]] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["0.2M", "merge.yml", "tiny"]


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    done = CliRunner().invoke(main, ["--methods", "tiez"])
    assert done.exit_code == click.UsageError.exit_code
    assert "tiez: expected all or some of linear, slerp" in " ".join(done.output.split())
