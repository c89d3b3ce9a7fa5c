"""Every config in `examples/` runs as it is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from build_site import terminal
from fixture_types import Outcome
from tiny import registry

import mergecore
from mergecore.types import MergeMethod

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("config", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.stem)
def test_an_example_runs(
    config: Path, tiny_llamas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("base", "code", "math"):
        shutil.copytree(tiny_llamas / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    out = mergecore.merge(config, tmp_path / "out", registry=registry())

    assert (out / "model.safetensors").is_file()


def test_the_readme_lists_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf8")
    assert all(f"`{path.name}`" in text for path in EXAMPLES.glob("*.yml"))


def test_the_page_of_the_methods_names_every_method() -> None:
    text = (EXAMPLES.parent / "docs" / "reference" / "methods.md").read_text(encoding="utf8")
    missing = [method.name for method in registry().all(MergeMethod) if f"`{method.name}`" not in text]
    assert not missing


# ---- the picture of the README -----------------------------------------------------------------------------


def shown_in(picture: Path) -> str:
    """The lines of a picture of a terminal."""
    drawn = ET.parse(picture).getroot()  # noqa: S314 - it is ours
    pieces = [one for one in drawn.iter("{http://www.w3.org/2000/svg}text") if one.get("y")]
    rows: dict[str, str] = {}
    for one in pieces:
        rows[str(one.get("y"))] = rows.get(str(one.get("y")), "") + (one.text or "")
    return "\n".join(rows.values()).replace("\xa0", " ")


def test_the_picture_shows_what_the_commands_say_today(
    tiny_llamas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Outcome]
) -> None:
    picture = EXAMPLES.parent / "docs/pictures/merge.svg"
    assert picture.stat().st_size < 60_000
    assert "url(http" not in picture.read_text(encoding="utf8")  # fonts of elsewhere
    shown = shown_in(picture)
    assert [line[2:] for line in shown.splitlines() if line.startswith("$ ")] == [*terminal.COMMANDS]
    for name in ("base", "code", "math"):
        shutil.copytree(tiny_llamas / name, tmp_path / name)
        (tmp_path / name / "tokenizer.json").unlink()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yml").write_text(terminal.CONFIG, encoding="utf8")

    assert cli("plan", "config.yml").err.strip() in shown

    (tmp_path / "config.yml").write_text(terminal.CONFIG.replace("wieght", "weight"), encoding="utf8")
    numbers = re.compile(r"\b\d[\d.]*( [kMG]?B| bytes)?(/s)?")
    said = [cli("plan", "config.yml").out, cli("merge", "config.yml", "merged/").err]
    said.append(cli("verify", "merged/").out)
    kinds = {numbers.sub("N", line) for text in said for line in text.splitlines() if line}
    there = {numbers.sub("N", line.rstrip()) for line in shown.splitlines()}
    assert {line for line in kinds if not line.startswith("  ./")} <= there


def test_the_readme_has_the_picture_and_stays_short() -> None:
    text = (EXAMPLES.parent / "README.md").read_text(encoding="utf8")
    assert "](docs/pictures/merge.svg)" in text
    assert len(text.split()) < 600
