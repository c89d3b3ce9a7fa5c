"""`mergecore merge --report` and `mergecore report`: a merge beside what it was made of, number by number."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from fixture_types import Cli
from tiny import listing, llama, llama_config, read_tensors, registry, write_checkpoint

import mergecore
from mergecore.types import ModelReference
from mergecore_plugins.look.merged.tracing import Trace, traced

Numbers = npt.NDArray[np.float64]
LAYERS = 6
CONFIG = """
merge_method: ties
base_model: base
dtype: bfloat16
models:
  - {model: a, parameters: {weight: 1, density: 0.4}}
  - {model: b, parameters: {weight: 0.7, density: 0.6}}
  - {model: c, parameters: {weight: 0.5, density: 0.5}}
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base in float32 and three sparse fine-tunes of it, two of them in halves."""
    monkeypatch.chdir(tmp_path)
    base = llama(LAYERS)
    write_checkpoint(tmp_path / "base", base, llama_config(LAYERS))
    for seed, (name, dtype) in enumerate(
        [("a", torch.float32), ("b", torch.bfloat16), ("c", torch.float16)], 1
    ):
        draw = torch.Generator().manual_seed(seed)
        moved = {
            key: (one + 0.3 * torch.randn(one.shape, generator=draw) * (torch.rand(one.shape, generator=draw) < 0.5))
            for key, one in base.items()
        }  # fmt: skip
        write_checkpoint(
            tmp_path / name, {key: one.to(dtype) for key, one in moved.items()}, llama_config(LAYERS)
        )
    (tmp_path / "cfg.yml").write_text(CONFIG)
    return tmp_path


def found_in(folder: Path, config: str = "cfg.yml", threads: int = 2) -> Trace:
    result = mergecore.planner(registry=registry()).open(ModelReference(str(folder)))
    return traced(mergecore.plan(config, registry=registry()), result, threads)


def cosine(x: Numbers, y: Numbers) -> float | None:
    length = np.linalg.norm(x) * np.linalg.norm(y)
    return float((x * y).sum() / length) if length else None


def away(x: Numbers, y: Numbers) -> float:
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def rounded(values: torch.Tensor, *others: torch.Tensor) -> Numbers:
    """In the coarsest format of all."""
    order = [torch.float32, torch.float16, torch.bfloat16]
    coarsest = max((one.dtype for one in (values, *others)), key=order.index)
    return values.to(coarsest).double().numpy()


def test_every_number_is_that_of_numpy(models: Path, cli: Cli) -> None:
    assert cli("merge", "cfg.yml", "out").code == 0
    found = found_in(models / "out")
    stored = {name: read_tensors(models / name) for name in ("base", "a", "b", "c", "out")}
    assert {one.name for one in found.tensors} == stored["base"].keys()
    assert found.skipped == {}
    for one in found.tensors:
        raw = {name: each[one.name] for name, each in stored.items()}
        base, result = (raw[name].double().numpy() for name in ("base", "out"))
        parents = [raw[name].double().numpy() for name in "abc"]
        assert [found.models[parent] for parent in one.parents] == ["a", "b", "c"]
        assert one.moved
        assert one.moved.relative == pytest.approx(away(result, base))
        assert (
            one.moved.changed == (rounded(raw["base"], raw["out"]) != rounded(raw["out"], raw["base"])).sum()
        )
        for parent, apart, moved, change in zip(
            parents, one.apart, one.parents_moved, one.changes, strict=True
        ):
            assert apart.relative == pytest.approx(away(result, parent))
            assert apart.cosine == pytest.approx(cosine(result, parent))
            assert moved.relative == pytest.approx(away(parent, base))
            assert change.cosine == pytest.approx(cosine(parent - base, result - base))
        changes = np.stack(parents) - base
        shared = (changes != 0).sum(axis=0) >= 2
        opposed = (changes > 0).any(axis=0) & (changes < 0).any(axis=0)
        assert one.votes
        assert (one.votes.shared, one.votes.opposed) == (shared.sum(), opposed.sum())
        each = [rounded(raw[name], raw["base"]) != rounded(raw["base"], raw[name]) for name in "abc"]
        assert one.votes.changed == np.stack(each).any(axis=0).sum()


def test_without_a_base_there_are_distances_alone(models: Path, cli: Cli) -> None:
    each = "- {model: a, parameters: {weight: 1}}\n- {model: b, parameters: {weight: 3}}\n"
    (models / "cfg.yml").write_text(f"merge_method: linear\ndtype: float32\nmodels:\n{each}")
    assert cli("merge", "cfg.yml", "out", "--report", "out.html").code == 0
    a, b = read_tensors(models / "a"), read_tensors(models / "b")
    for one in found_in(models / "out").tensors:
        assert (one.moved, one.changes, one.votes) == (None, (), None)
        first, second = a[one.name].double().numpy(), b[one.name].double().numpy()
        result = (first + 3 * second) / 4
        for apart, parent in zip(one.apart, (first, second), strict=True):
            assert apart.relative == pytest.approx(away(result, parent), rel=1e-4)
    text = (models / "out.html").read_text()
    assert "The result is nearest to b: " in text
    assert "Cosine of the weights with those of a" in text
    assert "from the base" not in text


def test_the_numbers_depend_neither_on_threads_nor_on_chunks(
    models: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("merge", "cfg.yml", "out").code == 0
    first = found_in(models / "out", threads=1)
    assert found_in(models / "out", threads=3) == first
    monkeypatch.setattr("mergecore_plugins.look.merged.tracing.ENTRIES", 60)  # a row or two at a time
    parts = found_in(models / "out")
    for one, other in zip(first.tensors, parts.tensors, strict=True):
        assert one.votes == other.votes
        assert one.moved
        assert other.moved
        assert other.moved.delta == pytest.approx(one.moved.delta)


# ---- the page ----------------------------------------------------------------------------------------------


def test_a_report_changes_no_byte_of_the_merge(models: Path, cli: Cli) -> None:
    assert cli("merge", "cfg.yml", "plain").code == 0
    done = cli("merge", "cfg.yml", "out", "--report", "out.html")
    assert done.code == 0, done.err
    assert "wrote out.html, " in done.err
    assert listing(models / "plain") == listing(models / "out")
    assert cli("verify", "out").code == 0


def test_the_sentences_are_true(models: Path, cli: Cli) -> None:
    cli("merge", "cfg.yml", "out", "--report", "out.html")
    text = (models / "out.html").read_text()
    stored = {
        name: np.concatenate([one.double().numpy().ravel() for one in read_tensors(models / name).values()])
        for name in ("base", "a", "b", "c", "out")
    }
    apart = {n: np.linalg.norm(stored["out"] - stored[n]) / np.linalg.norm(stored[n]) for n in "abc"}
    near = min(apart, key=lambda name: apart[name])
    assert f"The result is nearest to {near}: {apart[near]:.3g} of its norm away." in text
    moved = np.linalg.norm(stored["out"] - stored["base"]) / np.linalg.norm(stored["base"])
    assert f"It moved {moved:.3g} from the base, in " in text
    changes = np.stack([stored[name] - stored["base"] for name in "abc"])
    opposed = (changes > 0).any(axis=0) & (changes < 0).any(axis=0)
    conflict = opposed.sum() / ((changes != 0).sum(axis=0) >= 2).sum()
    assert f"they disagree on its sign in {100 * conflict:.3g} %." in text
    sums: dict[str, list[Numbers]] = {}
    base, result = (read_tensors(models / name) for name in ("base", "out"))
    for name, one in base.items():
        layer = re.match(r"model\.layers\.(\d+)\.(input|post)", name)
        place = f"norm in layer {layer[1]}" if layer else name
        sums.setdefault(place, [np.zeros(0), np.zeros(0)])
        each = (one.double().numpy().ravel(), result[name].double().numpy().ravel())
        sums[place] = [np.concatenate(pair) for pair in zip(sums[place], each, strict=True)]
    values = [away(changed, before) for before, changed in sums.values()]
    told = re.search(r"From (\S+) \([^)]+\) to (\S+) \([^)]+\): the stronger a cell, the farther", text)
    assert told
    assert told.groups() == (f"{min(values):.3g}", f"{max(values):.3g}")


def test_the_run_is_told(models: Path, cli: Cli) -> None:
    cli("merge", "cfg.yml", "out", "--report", "out.html", "-j", "1")
    text = (models / "out.html").read_text()
    manifest = mergecore.read_manifest(models / "out")
    assert manifest.fingerprint in text
    assert all(one.digest in text for one in manifest.tensors.values())
    assert re.search(r"<dt>time</dt><dd>[0-9.]+ s, read and written, [0-9.]+ \w+ a second</dd>", text)
    assert re.search(r"<dt>memory</dt><dd>[0-9.]+ [MG]B at the peak of the process</dd>", text)
    assert "mergecore merge cfg.yml out --threads 1</code>" in text


def test_a_merge_that_is_there_is_not_made_again(models: Path, cli: Cli) -> None:
    assert cli("merge", "cfg.yml", "out").code == 0
    before = (models / "out" / "model.safetensors").stat().st_mtime_ns
    done = cli("merge", "cfg.yml", "out", "--report", "out.html")
    assert done.code == 0, done.err
    assert (models / "out" / "model.safetensors").stat().st_mtime_ns == before
    assert "not known: the folder was there before" in (models / "out.html").read_text()


def test_a_report_is_made_of_the_manifest_alone(models: Path, cli: Cli) -> None:
    assert cli("merge", "cfg.yml", "out", "--report", "first.html").code == 0
    (models / "cfg.yml").unlink()
    done = cli("report", "out", "second.html")
    assert done.code == 0, done.err
    first, second = ((models / f"{name}.html").read_text() for name in ("first", "second"))
    assert tables(first) == tables(second)
    (models / "all").mkdir()
    for name in ("base", "a", "b", "c"):
        (models / name).rename(models / "all" / name)
    assert cli("report", "out", "third.html").code != 0
    done = cli("report", "out", "third.html", "--models", "all")
    assert done.code == 0, done.err
    assert tables((models / "third.html").read_text())[0][0] == tables(first)[0][0]


def tables(text: str) -> list[list[str]]:
    return [
        re.findall(r"<tr>.*?</tr>", one, re.DOTALL)
        for one in re.findall(r"<table>.*?</table>", text, re.DOTALL)
    ]


def test_other_models_than_those_that_were_merged_are_refused(models: Path, cli: Cli) -> None:
    assert cli("merge", "cfg.yml", "out").code == 0
    write_checkpoint(models / "a", {k: v.half() for k, v in llama(LAYERS).items()}, llama_config(LAYERS))
    done = cli("report", "out", "out.html")
    assert done.code == 6
    assert "E508: out: a is not the model that was merged: the headers of its files are others" in done.err
    assert "--models names the folder of the right one" in done.err


def test_options_of_the_merge_are_those_of_the_manifest(models: Path, cli: Cli) -> None:
    write_checkpoint(models / "a", read_tensors(models / "a") | {"rest": torch.ones(2)}, llama_config(LAYERS))
    done = cli("merge", "cfg.yml", "out", "--unexpected", "copy", "--report", "out.html")
    assert done.code == 0, done.err
    again = cli("report", "out", "again.html")
    assert again.code == 0, again.err
    assert tables((models / "again.html").read_text()) == tables((models / "out.html").read_text())
    manifest = models / "out" / "mergecore-manifest.json"
    manifest.write_text(manifest.read_text().replace('"unexpected": "copy"', '"unexpected": "drop"'))
    done = cli("report", "out", "third.html")
    assert done.code == 6
    assert (
        "E508: out: its config alone makes other tensors than it has: it was merged with further" in done.err
    )
    assert "`mergecore merge CONFIG out --report FILE`, with these, makes the page" in done.err


def test_several_documents_are_taken_from_the_manifest(models: Path, cli: Cli) -> None:
    second = "- {model: first, parameters: {weight: 1}}\n- {model: a, parameters: {weight: 1}}\n"
    (models / "two.yml").write_text(f"name: first\n{CONFIG}---\nmerge_method: linear\nmodels:\n{second}")
    assert cli("merge", "two.yml", "out", "--fuse", "never", "--report", "out.html").code == 0
    done = cli("report", "out", "again.html")
    assert done.code == 0, done.err
    first, again = (tables((models / f"{name}.html").read_text()) for name in ("out", "again"))
    assert again[0] == first[0]


def test_numbers_that_are_not_finite_are_left_out_and_told(models: Path, cli: Cli) -> None:
    broken = read_tensors(models / "a")
    broken["model.norm.weight"][1] = float("nan")
    write_checkpoint(models / "a", broken, llama_config(LAYERS))
    done = cli("merge", "cfg.yml", "out", "--allow-nonfinite", "--report", "out.html")
    assert done.code == 0, done.err
    text = (models / "out.html").read_text()
    assert "there are numbers that are not finite" in text
    assert ">nan<" not in text


def test_intermediate_results_are_read_where_they_were_written(models: Path, cli: Cli) -> None:
    (models / "two.yml").write_text(
        f"name: first\n{CONFIG}---\nmerge_method: linear\nmodels:\n"
        "- {model: first, parameters: {weight: 1}}\n- {model: a, parameters: {weight: 1}}\n"
    )
    for fuse in ("never", "always"):
        done = cli("merge", "two.yml", fuse, "--fuse", fuse, "--report", f"{fuse}.html")
        assert done.code == 0, done.err
    never, always = ((models / f"{name}.html").read_text() for name in ("never", "always"))
    assert "Cosine of the weights with those of first" in never
    assert "The result is nearest to" in always
    done = cli("merge", "two.yml", "other", "--fuse", "never", "--remove-intermediate", "--report", "x.html")
    assert done.code == 2
    assert "--report reads intermediate results, which --remove-intermediate removes" in done.err
    assert not (models / "other").exists()


def test_layers_of_one_model_each_have_no_nearest_parent(models: Path, cli: Cli) -> None:
    each = "".join(f"- sources: [{{model: {name}, layer_range: [0, 2]}}]\n" for name in "ab")
    (models / "cfg.yml").write_text(f"merge_method: passthrough\nslices:\n{each}")
    assert cli("merge", "cfg.yml", "out", "--report", "out.html").code == 0
    text = (models / "out.html").read_text()
    assert "Each tensor is made of one model: 19 of a and 20 of b." in text


# ---- where it is written -----------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_refused_before_the_merge(models: Path, cli: Cli) -> None:
    (models / "mine.html").write_text("mine")
    for place, text in (
        ("mine.html", "E501: mine.html exists. Hint: choose another name, or remove it"),
        (
            "nowhere/x.html",
            "nowhere/x.html: the folder nowhere does not exist. Hint: make it, or choose another",
        ),
        (
            "out/x.html",
            "out/x.html: the report is inside the output out. Hint: choose a place beside it: nothing",
        ),
    ):
        done = cli("merge", "cfg.yml", "out", "--report", place)
        assert done.code == 6
        assert text in done.err
        assert not (models / "out").exists()


def test_overwrite_replaces_a_report_and_nothing_else(models: Path, cli: Cli) -> None:
    assert cli("merge", "cfg.yml", "out", "--report", "out.html").code == 0
    assert cli("merge", "cfg.yml", "out", "--report", "out.html", "--overwrite").code == 0
    (models / "out.html").write_text("mine")
    done = cli("merge", "cfg.yml", "out", "--report", "out.html", "--overwrite")
    assert done.code == 6
    assert "out.html exists and is not a report" in done.err
    assert (models / "out.html").read_text() == "mine"


def test_a_report_that_cannot_be_written_says_so(
    models: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = cli("plan", "cfg.yml", "--html", "plan.html")
    assert done.code == 6
    assert (
        "E504: plan.html: the report cannot be written: No space left on device. Hint: free some" in done.err
    )
    assert sorted(one.name for one in models.glob("*plan*")) == []


def test_a_quiet_merge_says_nothing_of_its_report(models: Path, cli: Cli) -> None:
    done = cli("merge", "cfg.yml", "out", "--report", "out.html", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert (models / "out.html").is_file()


def test_names_with_html_are_text(models: Path, cli: Cli) -> None:
    evil = "<img src=x onerror=alert(1)>"
    for name in ("base", "a", "b", "c"):
        tensors = read_tensors(models / name)
        write_checkpoint(models / name, {**tensors, evil: torch.ones(3)}, llama_config(LAYERS))
    (models / "a").rename(models / evil)
    (models / "cfg.yml").write_text(CONFIG.replace("model: a,", f"model: '{evil}',"))
    done = cli("merge", "cfg.yml", evil[::-1].replace("/", ""), "--report", "out.html")
    assert done.code == 0, done.err
    text = (models / "out.html").read_text()
    assert "<img" not in text
    assert "&lt;img" in text
