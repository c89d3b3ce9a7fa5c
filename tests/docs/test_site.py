"""The site of the documentation is built without a warning, and has every page."""

from __future__ import annotations

import html
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import click
import pytest
from browser import needed, served, started
from build_site import looking
from build_site.formulas import typeset
from build_site.links import broken
from tiny import registry

from mergecore.cli.app import cli
from mergecore.config.parameters.declared import describe_params
from mergecore.config.schema import schema
from mergecore.plugins import hookspecs
from mergecore.types import MergeMethod

pytest.importorskip("furo", reason="the site needs what `pip install '.[docs]'` brings")
pytest.importorskip("myst_parser", reason="the site needs what `pip install '.[docs]'` brings")

ROOT = Path(__file__).parents[2]


def build(out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "build_site", str(out)]
    environment = {"PYTHONPATH": str(ROOT / "docs"), "PATH": "/usr/bin:/bin", "HOME": str(out.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs") / "site"
    done = build(out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return out


def test_the_site_has_every_page_and_what_searches_them(site: Path) -> None:
    pages = [one.relative_to(ROOT / "docs").with_suffix(".html") for one in (ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if not (site / page).is_file()] == []
    assert (site / "search.html").is_file()
    assert (site / "searchindex.js").is_file()


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=\"((?:https?:)?//[^\"]+)\"")
    found = {url for page in site.rglob("*.html") for url in loaded.findall(page.read_text(encoding="utf8"))}
    assert found == set()


def test_the_reference_has_what_the_code_has(site: Path) -> None:
    def words(page: str) -> str:
        return html.unescape(re.sub(r"<[^>]+>", "", (site / "reference" / page).read_text(encoding="utf8")))

    installed = registry()
    methods = [
        one for one in installed.all(MergeMethod) if installed.provider(MergeMethod, one.name).built_in
    ]
    assert len(methods) > 20
    for method in methods:
        page = (site / "reference" / "methods" / f"{method.name}.html").read_text(encoding="utf8")
        assert page.count('<div class="formula"><math') or "formula" in page
        assert page.count('<g class="result">') == 1, (
            f"{method.name} has no picture; add it to pictures.PARAMETERS"
        )
        missing = [row.name for row in describe_params(method.params) if f">{row.name}</span>" not in page]
        assert not missing
    hooks = [name for name in dir(hookspecs) if name.startswith("mergecore_")]
    for hook in hooks:
        signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
        assert f"def {hook}{signature}" in words("values.html")
    keys = words("keys.html").split()
    assert [key for key in schema(methods)["properties"] if key not in keys] == []  # type: ignore[union-attr]
    assert [word for word in command_words(cli, "mergecore") if word not in words("commands.html")] == []


def command_words(command: click.Command, path: str) -> Iterator[str]:
    yield path
    yield from (name for one in command.params if isinstance(one, click.Option) for name in one.opts)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from command_words(inner, f"{path} {name}")


SAMPLE = "index reference/config reference/commands reference/methods/ties how-to/from-mergekit explanation/evidence"


def test_links_search_phones_and_colours_work_in_a_browser(site: Path) -> None:
    needed()
    out = StringIO()
    with redirect_stdout(out):
        code = looking.main([str(site), *(f"{page}.html" for page in SAMPLE.split())])
    assert (code, out.getvalue()) == (0, "6 pages, 0 faults\n")


def test_the_browser_finds_what_is_wrong(tmp_path: Path) -> None:
    program = needed()
    (tmp_path / "favicon.ico").write_bytes(b"")
    (tmp_path / "bad.html").write_text(
        "<body style='background: rgb(90, 90, 90)'><p style='width: 500px'>wide</p>"
        "<a href='gone.html'></a><a href='#gone'></a><script>console.error('a fault'); nothing()</script>"
    )
    with served(tmp_path) as address, started(program) as shown:
        found = [*broken(tmp_path), *looking.faults(shown, address, ["bad.html"])]

    said = "\n".join(found)
    assert "bad.html: gone.html" in said
    assert "bad.html: #gone" in said
    assert "500 wide" in said or "508 wide" in said
    assert "a fault" in said
    assert "nothing is not defined" in said
    assert "the brightness of the page is" in said


# ---- formulas ----------------------------------------------------------------------------------------------


def plain(formula: str) -> str:
    """The mathematics as text: fractions as [above]/[below]."""
    made = typeset(formula)
    for tag, text in (("<mfrac>", "["), ("</mrow><mrow>", "]/["), ("</mfrac>", "]")):
        made = made.replace(tag, text)
    return html.unescape(re.sub(r"<[^>]+>", "", made))


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        ("sum_i w_i X_i / sum_i w_i", "[∑iwiXi]/[∑iwi]"),
        ("B + lambda sum_i w_i (X_i - B) / p_i", "B+λ∑iwi[Xi−B]/[pi]"),  # noqa: RUF001
        ("B + sum_i a_i / max(1, sum_i a_i)", "B+[∑iai]/[max(1,∑iai)]"),
        ("sin(t w) / sin(w) X_1", "[sin(tw)]/[sin(w)]X1"),
        ("u / |u| sum_i |X_i|", "[u]/[|u|]∑i|Xi|"),
        ("X where s >= 1, else B", "X where s≥1, else B"),
    ],
)
def test_a_formula_is_typeset_as_it_reads(formula: str, shown: str) -> None:
    assert plain(formula) == shown


def test_what_letters_mean_stands_below_the_formula() -> None:
    assert typeset("t X, t = 1; s: [A; B]").count("<li>") == 2


def test_a_formula_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="'#' of the formula 'X #' cannot be typeset"):
        typeset("X #")


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from build_site import __main__, sources

    def with_a_broken_link(project: Path, folder: Path) -> None:
        sources.write(folder / "index.md", "# One page\n\n[nothing](nowhere.md) and [no place](#none)\n")
        (folder / "_static").mkdir()

    monkeypatch.setattr(__main__, "write_sources", with_a_broken_link)
    assert __main__.build(tmp_path / "site") != 0
