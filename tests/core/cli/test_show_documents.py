"""What `mergecore plan` shows of several documents: which reads which, and what becomes of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import Cli
from terminal import ANSI, on_a_terminal
from tiny import write_llama

CONFIG = """\
name: soup
merge_method: linear
models: [{model: ./a}, {model: ./b}]
parameters: {weight: 1}
---
name: pruned
merge_method: ties
base_model: ./a
models: [{model: soup}]
parameters: {weight: 1, density: 0.5, scope: model}
---
name: mix
merge_method: slerp
base_model: pruned
models: [{model: soup}]
parameters: {t: 0.5}
---
merge_method: linear
models: [{model: mix}, {model: ./c}]
parameters: {weight: 1}
"""


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        write_llama(Path(name), 1, seed=seed)
    Path("c.yml").write_text(CONFIG)


def test_the_graph_is_told_in_words(cli: Cli) -> None:
    lines = cli("plan", "c.yml").out.splitlines()
    told = [" ".join(line.split()) for line in lines[: lines.index("")]]
    assert told[0] == "documents"
    assert told[1] == "soup linear, 1.98 kB"
    assert told[2].startswith("read by pruned, mix; written: it moves ")
    assert told[3] == "pruned ties, 1.98 kB, reads soup"
    assert told[4] == "read by mix; written: ties looks at all tensors first"
    assert told[5] == "mix slerp, 1.98 kB, reads soup, pruned"
    assert told[6].startswith("read by the result; computed while it is read: it moves ")
    assert told[7] == "the result linear, 1.98 kB, reads mix"


def test_it_fits_a_terminal_of_80_columns() -> None:
    import sys

    screen, code = on_a_terminal([str(Path(sys.executable).with_name("mergecore")), "plan", "c.yml"], 80)
    assert code == 0
    assert max(map(len, ANSI.sub("", screen).splitlines())) <= 80


def test_it_is_told_to_programs(cli: Cli) -> None:
    told = json.loads(cli("plan", "c.yml", "--json").out)["documents"]
    assert [(one["name"], one["made_by"], one["reads"], one["read_by"], one["how"]) for one in told] == [
        ("soup", "linear", [], ["pruned", "mix"], "written"),
        ("pruned", "ties", ["soup"], ["mix"], "written"),
        ("mix", "slerp", ["soup", "pruned"], [None], "computed"),
        (None, "linear", ["mix"], [], "result"),
    ]
    assert all(one["bytes"] == told[0]["bytes"] > 0 for one in told)
    Path("one.yml").write_text(CONFIG.partition("---")[0])
    assert "documents" not in json.loads(cli("plan", "one.yml", "--json").out)


def test_what_is_there_already_is_told(cli: Cli) -> None:
    def how() -> list[str]:
        plan = cli("plan", "c.yml", "--json", "--intermediate", "out.parts")
        return [one["how"] for one in json.loads(plan.out)["documents"]]

    assert how() == ["written", "written", "computed", "result"]
    assert cli("merge", "c.yml", "out").code == 0
    assert how() == ["reused", "reused", "computed", "result"]
    assert (
        "made already: it is there, and nothing has changed"
        in cli("plan", "c.yml", "--intermediate", "out.parts").out
    )
    Path("c.yml").write_text(CONFIG.replace("density: 0.5", "density: 0.4"))
    assert how() == ["reused", "written", "computed", "result"]
    write_llama(Path("b"), 1, seed=8)
    assert how() == ["written", "written", "computed", "result"]


def test_the_bound_of_memory_counts_what_is_computed(cli: Cli) -> None:
    def peak(fuse: str) -> int:
        return int(json.loads(cli("plan", "c.yml", "--json", "--fuse", fuse, "-j", "1").out)["peak_memory"])

    assert peak("always") > peak("never")
    outcome = cli("plan", "c.yml", "--fuse", "always", "--max-memory", f"{peak('never') // 1000}kB")
    assert outcome.code == 5
    assert "E405" in outcome.err
