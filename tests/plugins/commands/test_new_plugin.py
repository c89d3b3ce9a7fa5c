"""`mergecore new-plugin`: what it writes, asks, refuses and says. That its plugins work is tested in `packaging/`."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from fixture_types import Cli, WritePlugin

from mergecore.config.documents import CommonSection
from mergecore.config.grammar import MergeConfig
from mergecore.plugins import canonical
from mergecore.plugins.loading import OWN_COMMANDS
from mergecore_plugins.commands.new_plugin.baking import write

ROOT = Path(__file__).parents[3]
RULES = ROOT / "cookiecutter-plugin" / "hooks" / "pre_gen_project.py"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def project(name: str) -> dict[str, object]:
    document: dict[str, object] = tomllib.loads(Path(name, "pyproject.toml").read_text(encoding="utf8"))[
        "project"
    ]
    return document


def test_it_writes_a_project_and_says_what_to_do_next(cli: Cli) -> None:
    done = cli("new-plugin", "mid_point", "--author", "Ann")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "wrote mergecore-mid-point: a merge method that works. What to do next:\n\n"
        "  cd mergecore-mid-point\n"
        "  pip install --editable '.[dev]'\n"
        "  pytest\n\n"
        "The plugin is in mergecore_mid_point.py; README.md shows how it is used.\n"
    )
    assert sorted(path.as_posix() for path in Path().rglob("*") if path.is_file()) == [
        f"mergecore-mid-point/{name}"
        for name in (
            ".github/workflows/publish.yml",
            ".github/workflows/tests.yml",
            ".gitignore",
            "LICENSE",
            "README.md",
            "mergecore_mid_point.py",
            "pyproject.toml",
            "tests/test_plugin.py",
        )
    ]


def test_a_folder_may_be_said_and_is_made(cli: Cli) -> None:
    done = cli("new-plugin", "x", "--author", "Ann", "--output", "my plugins/new", "--licence", "none")
    assert "  cd 'my plugins/new/mergecore-x'\n" in done.out
    assert not Path("my plugins/new/mergecore-x/LICENSE").exists()
    assert "license" not in project("my plugins/new/mergecore-x")


@pytest.mark.parametrize(
    "author", ['Ann "Other"', "C:\\new", "Zoë 😀", "山田 太郎", "a]\n".strip(), "{{ x }} {% y %}", "'"]
)
def test_the_author_stands_in_licence_and_metadata_as_written(author: str, cli: Cli) -> None:
    assert cli("new-plugin", "x", "--author", author, "--license", "MIT").code == 0
    assert project("mergecore-x")["authors"] == [{"name": author}]
    assert f"Copyright (c) {author}\n" in Path("mergecore-x/LICENSE").read_text(encoding="utf8")


def test_without_an_author_it_is_whom_git_knows(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Git Knows")
    cli("new-plugin", "x")
    monkeypatch.setenv("PATH", "")
    cli("new-plugin", "y")
    assert project("mergecore-x")["authors"] == [{"name": "Git Knows"}]
    assert project("mergecore-y")["authors"] == [{"name": "Your name"}]


@pytest.mark.parametrize(
    ("stored", "name"), [(b"Zo\xc3\xab", "Zoë"), (b"Zo\xeb M\xfcller", "Zoë Müller"), (b" \n", "Your name")]
)
def test_a_name_that_git_has_in_another_encoding_is_read(
    stored: bytes, name: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setitem(os.environb, b"GIT_CONFIG_VALUE_0", stored)
    done = cli("new-plugin", "x")
    assert (done.code, done.err) == (0, "")
    assert project("mergecore-x")["authors"] == [{"name": name}]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("3d", "small letters and digits are expected, a letter first, - or _ between them; 'd' would do"),
        ("Mid_Point.2", "a letter first, - or _ between them; 'mid-point-2' would do"),
        ("Mid Point", "a letter first, - or _ between them; 'mid-point' would do"),
        ("é", "small letters and digits are expected, a letter first, - or _ between them"),
        ("", "small letters and digits are expected, a letter first, - or _ between them"),
        ("a\nb", "small letters and digits are expected, a letter first, - or _ between them; 'a-b' would do"),
        ("../x", "small letters and digits are expected, a letter first, - or _ between them; 'x' would do"),
        ("x_", "small letters and digits are expected, a letter first, - or _ between them; 'x' would do"),
        ("mergecore-x", "the package gets 'mergecore-' before its name; 'x' would do"),
        ("mergecore_x", "the package gets 'mergecore-' before its name; 'x' would do"),
        ("x" * 61, "61 letters are too many; 60 at most"),
        ("true", "YAML does not take this for a text, so no config could say it"),
        ("plugins", "'mergecore_plugins' is a package of mergecore itself"),
        ("spectral", "'mergecore_spectral' is a package of mergecore itself"),
        ("ties", "mergecore has a plugin called 'ties'"),
        ("dare-ties", "mergecore has a plugin called 'dare_ties'"),
    ],
)  # fmt: skip
def test_a_name_that_would_not_work_is_refused(name: str, why: str, cli: Cli) -> None:
    done = cli("new-plugin", "--author", "Ann", "--", name)
    assert done.code == 2
    assert f"name '{name}'".replace("\n", "\\n") in done.err.replace("\\x0a", "\\n")
    assert why in done.err
    assert not [*Path().iterdir()]


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("command", "merge", "this is a command of mergecore itself"),
        ("command", "merge-lora", "mergecore 0.1.0, built-in has a command called so"),
        ("recipe", "models", "this is a key of other configs, which the recipe would take away"),
        ("moe-family", "mixtral", "mergecore 0.1.0, built-in has a moe-family called so"),
        ("policy", "soup", "mergecore has a plugin called 'soup'"),
        ("sampler", "nsga2", "mergecore 0.1.0, built-in has a sampler called so"),
    ],
)
def test_a_name_that_something_of_the_kind_has_is_refused(kind: str, name: str, why: str, cli: Cli) -> None:
    done = cli("new-plugin", name, "--kind", kind, "--author", "Ann")
    assert done.err == f"mergecore: error E115: name '{name}': {why}\n"


@pytest.mark.parametrize(
    "name", ["lambda", "json", "torch", "hookimpl", "merge", "test", "pytest", "mergecore", "con"]
)
def test_names_of_python_and_of_packages_harm_nothing(name: str, cli: Cli) -> None:
    assert cli("new-plugin", name, "--author", "Ann").code == 0
    compile(Path(f"mergecore-{name}/mergecore_{name}.py").read_text(), "module", "exec")


def test_everything_that_is_wrong_is_said_at_once(cli: Cli) -> None:
    done = cli("new-plugin", "X", "--author", "  ")
    assert [line.split(": ")[2] for line in done.err.splitlines()] == ["name 'X'", "author"]
    assert "author: the name of a person or a group is expected, got nothing" in done.err


def test_an_author_of_two_lines_is_refused(cli: Cli) -> None:
    done = cli("new-plugin", "x", "--author", "a\nb")
    assert done.err == "mergecore: error E115: author: one line without control characters is expected\n"


def test_the_name_of_an_installed_plugin_is_refused_but_not_that_of_this_project(
    cli: Cli, write_plugin: WritePlugin
) -> None:
    code = "from mergecore import hookimpl\n@hookimpl\ndef mergecore_report(event): pass\n"
    write_plugin("stranger", code, {"taken": "stranger"})
    write_plugin("mergecore_mine", code, {"mine": "mergecore_mine"})
    assert (
        "name 'taken': stranger has a plugin called 'taken'"
        in cli("new-plugin", "taken", "--author", "Ann").err
    )
    assert cli("new-plugin", "mine", "--author", "Ann").code == 0


def test_what_exists_is_left_alone(cli: Cli) -> None:
    Path("mergecore-x").mkdir()
    Path("file").touch()
    done = cli("new-plugin", "x", "--author", "Ann")
    hint = "Hint: choose another name, or another folder with --output"
    assert (done.code, done.err) == (6, f"mergecore: error E501: mergecore-x: this exists already. {hint}\n")
    assert "Directory 'file' is a file" in cli("new-plugin", "x", "--author", "Ann", "--output", "file").err
    assert [*Path("mergecore-x").iterdir()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(cli: Cli, tmp_path: Path) -> None:
    Path("closed").mkdir(mode=0o500)
    done = cli("new-plugin", "x", "--author", "Ann", "--output", "closed")
    assert (done.code, done.err[:24]) == (6, "mergecore: error E505: c")


def test_nothing_is_left_of_a_project_that_cannot_be_written(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    done = cli("new-plugin", "x", "--author", "Ann")
    assert done.code == 6
    assert "E505: mergecore-x: the project cannot be written: No space left on device. " in done.err
    assert "Hint: choose another folder with --output" in done.err
    assert not Path("mergecore-x").exists()


@pytest.mark.parametrize("error", [UnicodeEncodeError("utf8", "", 0, 1, "surrogates"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_project_whatever_goes_wrong(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(type(error)):
        write({"README.md": "text"}, tmp_path / "mergecore-x")
    assert not [*tmp_path.iterdir()]


def test_without_a_name_it_asks_for_what_is_not_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["source", "newest", "Ann", "MIT"])
    asked: list[str] = []

    def answer(text: str, **_: object) -> str:
        asked.append(text)
        return next(answers)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(click, "prompt", answer)
    done = cli("new-plugin")
    assert (done.code, done.err) == (0, "")
    assert asked == [
        "What the plugin adds",
        "Name of the plugin, as configs will write it",
        "Author",
        "Licence",
    ]
    assert "  source: opens models of another kind\n" in done.out
    assert "Copyright (c) Ann" in Path("mergecore-newest/LICENSE").read_text()

    answers = iter(["shout"])
    asked.clear()
    assert cli("new-plugin", "--kind", "writer", "--author", "Ann", "--licence", "MIT").code == 0
    assert asked == ["Name of the plugin, as configs will write it"]


def test_where_nobody_can_be_asked_the_name_is_needed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    done = cli("new-plugin")
    told = "NAME is missing. Hint: for example `mergecore new-plugin my-method`"
    assert (done.code, done.err) == (2, f"mergecore: error E115: {told}\n")


def test_the_help_names_every_kind_and_fits_80_columns(cli: Cli) -> None:
    text = cli("new-plugin", "--help").out
    assert "  moe-family: a family of mixtures of experts\n" in text
    assert max(len(line) for line in text.splitlines()) <= 80


# ---- the rules that the template brings --------------------------------------------------------------------


@pytest.fixture(scope="module")
def rules() -> dict[str, object]:
    return runpy.run_path(str(RULES))


def test_the_rules_know_every_command_of_the_core(rules: dict[str, object]) -> None:
    assert rules["COMMANDS"] == OWN_COMMANDS


def test_the_rules_know_every_package_of_the_project(rules: dict[str, object]) -> None:
    files = [*ROOT.glob("*/mergecore_*/__init__.py"), *ROOT.glob("contrib/*/mergecore_*/__init__.py")]
    names = {path.parent.name.removeprefix("mergecore_") for path in files}
    names |= {canonical(path.name).removeprefix("mergecore-") for path in ROOT.glob("contrib/mergecore-*")}
    assert rules["OWN"] == tuple(sorted(names))


@pytest.mark.parametrize("name", ["My_Plugin", "a.b-_c", "plain", "Ä__b"])
def test_the_rules_compare_names_as_the_core_does(name: str, rules: dict[str, object]) -> None:
    plain = rules["plain"]
    assert callable(plain)
    assert plain(name) == canonical(name)


def test_the_rules_need_nothing_but_python() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1])"
    command: list[str | Path] = [sys.executable, "-S", "-I", "-c", code, RULES]
    assert subprocess.run(command, check=False).returncode == 0


def test_the_rules_know_every_key_that_configs_have_at_their_top(rules: dict[str, object]) -> None:
    keys = rules["KEYS"]
    assert isinstance(keys, list)
    sections = (MergeConfig, CommonSection)
    declared = {info.alias or name for one in sections for name, info in one.model_fields.items()}
    assert sorted(declared - set(keys)) == []
    assert keys == sorted(keys)
