"""Every snippet of README and docs runs, in a folder that holds the models they name."""

from __future__ import annotations

import os
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

from mergecore_plugins.commands.demo import ASSETS

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


@pytest.fixture(scope="session")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `practice`, made by the commands of the first tutorial."""
    [made] = [one for one in snippets(ROOT / "docs" / "tutorial" / "first-merge.md") if one.language == "sh"]
    demo, *commands = made.text.splitlines()
    assert demo == "mergecore demo"  # which tests of the demo run: here only what it copies first
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ASSETS / "talk", folder / "mergecore-demo" / "talk")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["/bin/sh", "-ec", "\n".join(commands)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "practice"


@pytest.fixture
def workplace(tmp_path: Path, practice: Path, tiny_llamas: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the models that a reader has, and what stands for a run of the reader's own."""
    shutil.copytree(practice, tmp_path, dirs_exist_ok=True)
    shutil.copytree(tiny_llamas / "run", tmp_path / "run")
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
            missing = [line for line in printed(snippet) if line not in outcome.out.splitlines()]
            assert not missing, f"{words} does not print {missing}, but\n{outcome.out}"
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
            yield shlex.split(line.removeprefix("$ "))
        elif line.startswith("$ "):
            assert line.split()[1] in ("make", "pip"), f"'{line}' is not tried by any test"


def printed(snippet: Snippet) -> list[str]:
    """What a snippet shows below its only command; an ellipsis stands for lines that it leaves out."""
    first, *lines = snippet.text.splitlines() or [""]
    if snippet.language != "console" or not first.startswith("$ ") or any(one[:2] == "$ " for one in lines):
        return []
    return [line for line in lines if line.strip() not in ("", "…")]


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


@pytest.mark.parametrize(
    "page",
    [one for one in PAGES if one.parent.name in ("how-to", "reference")],
    ids=lambda page: f"{page.parent.name}/{page.stem}",
)
def test_a_guide_that_names_models_says_where_to_get_them(page: Path) -> None:
    runs = "\n".join(one.text for one in snippets(page) if one.language in ("console", "yaml", "python"))
    named = re.findall(r"(?:model: |mergecore [\w-]+ (?:\w+ )?)" + PRACTICE.pattern, runs)
    text = page.read_text(encoding="utf8")
    assert not named or "first-merge.md#models-to-try-it-with" in text or "mergecore demo" in text


def test_the_tutorial_makes_the_models_that_the_guides_name(practice: Path) -> None:
    assert {"base", "code", "math", "style", "tone"} == {one.name for one in practice.iterdir()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_has_no_comment_behind_it(page: Path) -> None:
    lines = [
        line for one in snippets(page) if one.language in ("console", "sh") for line in one.text.splitlines()
    ]
    assert not [line for line in lines if re.search(r"\S +# ", line)], "zsh takes it for arguments"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda page: page.stem)
def test_a_guide_begins_with_what_it_is_about(page: Path) -> None:
    _, first, *_ = page.read_text(encoding="utf8").split("\n\n")
    assert "first-merge.md#models-to-try-it-with" not in first


def test_the_guide_of_several_steps_shows_the_plan_of_its_example(
    workplace: Path, cli: Callable[..., Outcome]
) -> None:
    found = snippets(ROOT / "docs" / "how-to" / "several-steps.md")
    (workplace / "steps.yml").write_text(found[0].text, encoding="utf8")
    [shown] = [one.text for one in found if one.language == "text"]
    printed = " ".join(cli("plan", "steps.yml").out.split())
    assert all(" ".join(part.split()) in printed for part in shown.split("\u2026"))
