"""Every snippet of README and docs runs, in a folder that holds the models they name."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixture_types import Outcome

ROOT = Path(__file__).parents[2]
TRANSCRIPTS = {"first-method.md"}
"""Pages that are followed command by command, in tests of their own."""
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"`([\w.-]+\.(?:py|toml|yml|txt|jsonl))`[^`]*$")


@dataclass(frozen=True)
class Snippet:
    """A fenced block, and the file that the text before it names."""

    page: Path
    language: str
    text: str
    name: str | None


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf8")
    found = []
    for match in FENCE.finditer(text):
        before = text[max(0, match.start() - 120) : match.start()].rpartition("```")[2]
        named = NAMED.search(before)
        found.append(Snippet(page, match[1], match[2], named[1] if named else None))
    return found


@pytest.fixture
def workplace(tmp_path: Path, tiny_llamas: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the models that the pages name."""
    for name in ("base", "code", "math", "seeing", "seeing-more", "speaking", "style", "tone", "run"):
        shutil.copytree(tiny_llamas / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in TRANSCRIPTS],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_snippets_run_in_the_order_of_their_page(
    page: Path, workplace: Path, cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ""  # in a guide, the unnamed snippets of Python go on from the last `import mergecore`
    for number, snippet in enumerate(snippets(page)):
        if snippet.name:
            (workplace / snippet.name).write_text(snippet.text, encoding="utf8")
        for words in commands(snippet, number):
            with monkeypatch.context() as patch:
                while "=" in words[0]:
                    patch.setenv(*words.pop(0).split("=", 1))
                words, to = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, "")
                outcome = cli(*words[1:])
            assert outcome.code == 0, f"{words}\n{outcome.err}"
            if to:
                Path(to).write_text(outcome.out, encoding="utf8")
        if snippet.language == "python":
            if "import mergecore\n" in snippet.text:
                session = ""
            run_python(session + snippet.text, workplace / (snippet.name or f"snippet_{number}.py"))
            if page.parent.name == "how-to" and not snippet.name:
                session += snippet.text


def commands(snippet: Snippet, number: int) -> Iterator[list[str]]:
    """The command lines of a snippet; those of make and pip are tried by continuous integration."""
    if snippet.language == "yaml" and re.search(
        r"^(merge_method|experts|pick_experts):(?! !)", snippet.text, re.MULTILINE
    ):
        config = Path(f"snippet-{number}.yml")
        config.write_text(snippet.text, encoding="utf8")
        yield ["mergecore", "merge", str(config), f"out-{number}"]
    for line in snippet.text.splitlines() if snippet.language == "console" else ():
        if re.match(r"\$ (\w+=\S+ )*mergecore ", line):
            yield shlex.split(line.removeprefix("$ "), comments=True)
        elif line.startswith("$ "):
            assert line.split()[1] in ("make", "pip"), f"'{line}' is not tried by any test"


def run_python(text: str, script: Path) -> None:
    script.write_text(text, encoding="utf8")
    done = subprocess.run(
        [sys.executable, script], cwd=script.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_first_page_leads_to_every_other_page() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf8")
    pages = {one.relative_to(ROOT / "docs").as_posix() for one in PAGES if one.parent.parent == ROOT / "docs"}
    missing = pages - set(re.findall(r"^\* \[[^]]+\]\(([^)]+)\)$", text, re.MULTILINE))
    assert not missing, "docs/index.md gives the pages of the site their order; add a line for each of these"


PRACTICE = re.compile(r"(?<![\w/-])(?:\./)?(?:base|code|math|style|tone)(?=[\s,/'\"`}])")
"""Folders that nobody has who has not made them."""


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda page: page.stem)
def test_a_guide_that_names_models_says_where_to_get_them(page: Path) -> None:
    runs = "\n".join(one.text for one in snippets(page) if one.language in ("console", "yaml", "python"))
    named = re.findall(r"(?:model: |mergecore [\w-]+ (?:\w+ )?)" + PRACTICE.pattern, runs)
    text = page.read_text(encoding="utf8")
    assert not named or "first-merge.md#models-to-try-it-with" in text or "mergecore demo" in text


def test_the_tutorial_makes_the_models_that_the_guides_name(
    tiny_llamas: Path, tmp_path: Path, cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    [made] = [one for one in snippets(ROOT / "docs" / "tutorial" / "first-merge.md") if one.language == "sh"]
    demo, *lines = made.text.splitlines()
    assert demo == "mergecore demo"  # which tests of the demo run
    for name, source in (("base", "base"), ("animals", "code"), ("capitals", "math")):
        shutil.copytree(tiny_llamas / source, tmp_path / "mergecore-demo" / "talk" / name)
    monkeypatch.chdir(tmp_path)
    for program, *words in map(shlex.split, lines):
        if program == "mkdir":
            Path(words[0]).mkdir()
        elif program == "cd":
            monkeypatch.chdir(words[0])
        elif program == "cp":
            assert words[0] == "-r"
            shutil.copytree(words[1], words[2])
        else:
            assert cli(*words).code == 0
    assert {"base", "code", "math", "style", "tone"} == {one.name for one in Path.cwd().iterdir()}
