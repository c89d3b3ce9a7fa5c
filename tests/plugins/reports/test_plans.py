"""`mergecore plan --html`: what is merged, by which method, of what, with which parameters, and every tensor."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import click
import pytest
from fixture_types import Cli
from tiny import llama, llama_config, read_tensors, registry, write_checkpoint, write_llama

import mergecore
from mergecore.cli import PlanFacts
from mergecore.errors import MergecoreError
from mergecore_plugins.reports.plans.page import plan_report
from mergecore_plugins.reports.plans.places import Places

EVIL = "<img src=x onerror=alert(1)>\"'&"
LAYERS = 5


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / name, LAYERS, seed=seed)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.write_text(text)


TIES = """
merge_method: ties
base_model: base
models:
  - model: a
    parameters: {weight: [{filter: mlp, value: 0.9}, {value: [0.1, 0.5]}], density: [1, 0.2]}
  - model: b
    parameters: {weight: 0.3, density: 0.5}
"""


def page_of(cli: Cli, folder: Path, config: str, *options: str) -> str:
    write(folder / "cfg.yml", config)
    (folder / "plan.html").unlink(missing_ok=True)
    done = cli("plan", "cfg.yml", "--html", "plan.html", *options)
    assert done.code == 0, done.err
    assert "wrote plan.html, " in done.err
    return (folder / "plan.html").read_text()


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every table."""
    return [
        [
            [unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
            for row in re.findall(r"<tr>.*?</tr>", one, re.DOTALL)
        ]
        for one in re.findall(r"<table>.*?</table>", text, re.DOTALL)
    ]


def table_of(text: str, heading: str) -> list[list[str]]:
    return next(rows[1:] for rows in tables(text) if rows[0][0] == heading)


def test_the_page_tells_the_parameters_by_layer_and_role(models: Path, cli: Cli) -> None:
    text = page_of(cli, models, TIES)
    assert "<h1>Plan: ties of base, a and b</h1>" in text
    assert "From 0.1 (embed, outside the layers) to 0.9 (mlp.down in layer 0)" in text
    found = {(row[1], row[2]): row[3] for row in table_of(text, "method")}
    assert found["weight", "a"] == "0.1 to 0.9"
    assert found["weight", "b"] == "0.3"
    assert found["density", "a"] == "0.2 to 1"
    weights = next(rows for rows in tables(text) if "mlp.down and 2 more" in rows[0])
    column = weights[0].index("mlp.down and 2 more")
    assert [row[column] for row in weights[1:]] == ["0.9"] * LAYERS + [""]
    attention = next(i for i, one in enumerate(weights[0]) if "and 4 more" in one)
    assert [row[attention] for row in weights[1:-1]] == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    density = next(rows for rows in tables(text) if rows[0] == ["layer", "a", "b"])
    assert [row[1:] for row in density[1:-1]] == [[one, "0.5"] for one in ("1", "0.8", "0.6", "0.4", "0.2")]


def test_every_tensor_is_accounted_for(models: Path, cli: Cli) -> None:
    text = page_of(cli, models, TIES)
    names = read_tensors(models / "base")
    rows = table_of(text, "tensors of the output")
    assert sum(int(row[1]) for row in rows) == len(names)
    assert ["model.layers.*.mlp.up_proj.weight", "5", "6 × 4", "F32", "ties", "a, b and base"] in [
        row[:6] for row in rows
    ]
    size = sum(one.numel() * 4 for one in names.values()) / 1000
    for row in table_of(text, "model"):
        assert row[3:7] == [str(len(names)), str(len(names)), "0", f"{size:.3g} kB"]
    assert "Every tensor of every model is read, or left out" in text
    assert "Nothing is left out." in text


def test_what_is_left_out_is_told_with_its_reason(models: Path, cli: Cli) -> None:
    extra = {**llama(LAYERS), "model.extra.weight": llama(1)["model.norm.weight"]}
    write_checkpoint(models / "b", extra, llama_config(LAYERS))
    text = page_of(cli, models, TIES, "--unexpected", "drop")
    assert any(row[:3] == ["b", "1", "model.extra.weight"] for rows in tables(text) for row in rows)
    assert "mergecore merge cfg.yml OUT --unexpected drop</code>" in text


def test_layers_of_several_models_are_drawn_where_they_come_from(models: Path, cli: Cli) -> None:
    text = page_of(
        cli,
        models,
        "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, 4]}]\n"
        "- sources: [{model: b, layer_range: [2, 5]}]\n",
    )
    drawn = next(rows for rows in tables(text) if rows[0] == ["layer", "a", "b"])
    assert [row[1:] for row in drawn[1:]] == [[str(one), ""] for one in range(4)] + [
        ["", str(one)] for one in (2, 3, 4)
    ]
    assert "From 0 (a in layer 0) to 4 (b in layer 6)" in text
    assert "Not in the output:" in text
    assert "are not accounted for" not in text


def test_warnings_are_there_with_what_to_do(models: Path, cli: Cli) -> None:
    text = page_of(cli, models, TIES + "chat_template: chatml\nparameters: {t: 0.5}\n")
    assert re.search(r"\d warnings?, below", text)
    assert "<h2 id=" in text
    assert "Warnings</h2>" in text


def test_documents_are_told_one_by_one(models: Path, cli: Cli) -> None:
    second = "- {model: first, parameters: {weight: 1}}\n- {model: a, parameters: {weight: 1}}\n"
    config = f"name: first\n{TIES}---\nmerge_method: linear\nmodels:\n{second}"
    text = page_of(cli, models, config, "--fuse", "never")
    assert [row[:3] for row in table_of(text, "document")] == [
        ["first", "ties", ""],
        ["the result", "linear", "first"],
    ]
    assert "first: Every tensor</h2>" in text
    assert ">Every tensor</h2>" in text


def test_a_copy_has_nothing_to_weigh(models: Path, cli: Cli) -> None:
    text = page_of(cli, models, "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n")
    assert "Nothing depends on layer or role: the table says all." in text


def test_names_with_html_are_text(models: Path, cli: Cli) -> None:
    plain = page_of(cli, models, TIES)
    (models / "a").rename(models / EVIL)
    for name in ("base", EVIL, "b"):
        tensors = read_tensors(models / name)
        tensors[EVIL] = tensors["model.norm.weight"].clone()
        write_checkpoint(models / name, tensors, llama_config(LAYERS))
    quoted = EVIL.replace("'", "''")
    text = page_of(cli, models, TIES.replace("model: a", f"model: '{quoted}'") + f"name: '{quoted}'\n")
    assert "<img" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") > 10
    assert plain.count("<script>") == text.count("<script>") == 1


def test_a_file_that_is_there_is_not_replaced(models: Path, cli: Cli) -> None:
    write(models / "cfg.yml", TIES)
    write(models / "plan.html", "mine")
    done = cli("plan", "cfg.yml", "--html", "plan.html")
    assert (done.code, (models / "plan.html").read_text()) == (6, "mine")
    assert "E501: plan.html exists. Hint: choose another name, or remove it" in done.err


def test_without_the_plugin_there_is_no_report(models: Path, cli: Cli) -> None:
    write(models / "cfg.yml", TIES)
    done = cli("plan", "cfg.yml", "--html", "plan.html", "--no-plugin", "report")
    assert done.code == 7
    assert "E607" in done.err
    assert not (models / "plan.html").exists()


def test_a_command_of_that_name_that_makes_no_reports_is_named(models: Path) -> None:
    from mergecore.cli.reports import report_command
    from mergecore.testing import registry_of

    @click.command("report")
    def other() -> None:
        """Something else."""

    with pytest.raises(MergecoreError, match="the command 'report' of plugin 'report' makes no") as found:
        report_command(registry_of(other))
    assert "makes no reports of plans" in found.value.what
    assert found.value.hint == "it has to be a ReportCommand"


def test_the_json_of_a_plan_stays_json(models: Path, cli: Cli) -> None:
    import json

    write(models / "cfg.yml", TIES)
    done = cli("plan", "cfg.yml", "--html", "plan.html", "--json")
    assert json.loads(done.out)["primary"] == "base"


def test_a_page_about_five_models_of_70_billion_parameters_is_small(tmp_path: Path) -> None:
    """The headers of real checkpoints, which take no space."""
    from benchmarks.checkpoints import parse_count, shape_for, write_set

    made = write_set(tmp_path, shape_for(parse_count("70B")), models=5, sparse=True)
    roles = ("q_proj", "k_proj", "up_proj", "down_proj")
    each = [{"filter": name, "value": [0.1 * i, 0.9]} for i, name in enumerate(roles)] + [
        {"value": [0.3, 0.4]}
    ]
    parameters = {"weight": each, "density": [*each[:3], each[-1]]}
    models = [{"model": str(one), "parameters": parameters} for one in made.folders[1:]]
    plan = mergecore.plan(
        {"merge_method": "ties", "base_model": str(made.base), "dtype": "bfloat16", "models": models},
        registry=registry(),
    )
    text = plan_report(PlanFacts(plan, {"": (2, 10**9)}, "mergecore merge cfg.yml OUT"))
    assert len(text.encode()) < 1_000_000
    assert all(one.other == 0 for one in Places(plan).accounts)
