"""`mergecore tokenizer`: the difference of two vocabularies, and templates that compile or do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fixture_types import Outcome
from workshop import Workshop

from mergecore.errors import InputError, PolicyError
from mergecore_plugins.commands.tokenizer import template_check

Command = Callable[..., Outcome]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)


def test_a_difference_is_counted_listed_and_followed_to_its_consequences(
    shop: Workshop, cli: Command
) -> None:
    shop.model("a", ["x", "y", "z"], ["<a>"])
    shop.model("b", ["x", "z", "w"], ["<b>", "<a>"])
    done = cli("tokenizer", "diff", "a", "b")
    assert done.code == 0
    assert (
        done.out
        == """\
a: 4 tokens, 1 of them added, ids up to 3; BPE in tokenizer.json
b: 5 tokens, 2 of them added, ids up to 4; BPE in tokenizer.json

1 token shared, 2 shared with other ids, 1 only in a, 2 only in b

only in a
  'y' 1

only in b
  'w' 2
  '<b>' 3 added

in both, with other ids
  'z' 2, 1
  '<a>' 3, 4

ids that stand for two tokens
  1 'y', 'z'
  2 'z', 'w'
  3 '<a>', '<b>'

with a as the base
  base: 4 rows; 4 of them in a, 3 of them in b; files copied
    the vocabulary of b differs from that of the output: 1 token shared, 2 shared with other ids, 1 only in the \
output, 2 only in b; rows of tokens it lacks are those of the other models, tokens that only it has are left out
  copy: refused: E240 the vocabularies of a and b differ: 1 token shared, 2 shared with other ids, 1 only in a, \
2 only in b (such as 'z', 'y', 'w'). Hint: say which vocabulary the output has: 'tokenizer: {source: base}' keeps \
that of the base, '{source: union}' adds the tokens of the others to it, '{source: <model>}' takes that of a model
  model: 5 rows; 3 of them in a, 5 of them in b; files copied
    the vocabulary of a differs from that of the output: 1 token shared, 2 shared with other ids, 2 only in the \
output, 1 only in a; rows of tokens it lacks are those of the other models, tokens that only it has are left out
  union: 6 rows; 4 of them in a, 5 of them in b; files changed: tokenizer.json
    union of a and b: 1 token shared, 2 shared with other ids, 1 only in a, 2 only in b; of the latter 1 are \
ordinary, such as 'w': they have ids and rows, but text is cut as by a, which does not use them, except where it \
lacks a character: 'w'
"""
    )


def test_a_difference_for_programs_holds_everything(shop: Workshop, cli: Command) -> None:
    shop.model("a", ["x", "y"])
    shop.model("b", ["x"], ["<b>"])
    found = json.loads(cli("tokenizer", "diff", "a", "b", "--json").out)
    assert found["models"][1] == {"model": "b", "file": "tokenizer.json", "kind": "BPE", "tokens": 2}
    assert (found["shared"], found["only_in_a"], found["only_in_b"]) == (1, ["y"], ["<b>"])
    assert (found["moved"], found["renamed"]) == ([], [[1, "y", "<b>"]])
    assert found["strategies"]["copy"]["refusal"].startswith("E240")
    assert (found["strategies"]["union"]["rows"], found["strategies"]["union"]["own_rows"]) == (3, [2, 2])


def test_long_lists_are_cut_unless_all_is_wanted(shop: Workshop, cli: Command) -> None:
    shop.model("a", ["x"])
    shop.model("b", ["x", *(f"t{number}" for number in range(15))])
    assert "  't9' 10\n  and 5 more; --all lists them" in cli("tokenizer", "diff", "a", "b").out
    assert "'t14' 15" in cli("tokenizer", "diff", "a", "b", "--all").out


def test_vocabularies_that_are_the_same_are_said_to_be(shop: Workshop, cli: Command) -> None:
    shop.model("a", ["x"])
    shop.model("b", ["x"])
    out = cli("tokenizer", "diff", "a", "b").out
    assert "1 token shared, 0 only in a, 0 only in b\n\nwith a as the base" in out
    assert "  copy: the rows stay where they are; files copied" in out


def test_a_folder_with_a_tokenizer_alone_can_be_compared(shop: Workshop, cli: Command) -> None:
    shop.model("a", ["x"])
    shop.model("b", ["x"])
    for name in ("config.json", "model.safetensors"):
        (shop.folder / "b" / name).unlink()
    assert cli("tokenizer", "diff", "a", "b").code == 0


@pytest.mark.parametrize(
    ("model", "code", "text"), [("none", 3, "none: it has no tokenizer"), ("./no", 3, "E701")]
)
def test_a_model_without_tokenizer_cannot_be_compared(
    shop: Workshop, cli: Command, model: str, code: int, text: str
) -> None:
    shop.model("a", ["x"])
    shop.model("none", ["x"], tokenizer=False)
    done = cli("tokenizer", "diff", "a", model)
    assert done.code == code
    assert text in done.err


# ---- templates ---------------------------------------------------------------------------------------------


def test_a_template_that_compiles_is_not_rendered(shop: Workshop, cli: Command) -> None:
    hostile = (
        "{% generation %}{{ cycler.__init__.__globals__.os.popen('touch PWNED').read() }}{% endgeneration %}"
    )
    shop.model("a", config={"chat_template": hostile})
    done = cli("tokenizer", "check-template", "a")
    assert done.out == f"a: the chat template compiles ({len(hostile)} characters)\n"
    (shop.folder / "t.jinja").write_text("{% for a in b %}{% break %}{% endfor %}")
    assert cli("tokenizer", "check-template", "t.jinja").code == 0
    assert not list(shop.folder.rglob("PWNED"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{% for %}", "error E240: t.jinja: the chat template does not compile: line 1: "),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "too deeply nested or too large"),
    ],
)
def test_a_template_that_does_not_compile_is_refused(
    shop: Workshop, cli: Command, text: str, told: str
) -> None:
    (shop.folder / "t.jinja").write_text(text)
    done = cli("tokenizer", "check-template", "t.jinja")
    assert done.code == 3
    assert told in done.err


def test_a_model_without_a_template_has_nothing_to_check(shop: Workshop, cli: Command) -> None:
    shop.model("a", ["x"])
    assert "a: the model has no chat template" in cli("tokenizer", "check-template", "a").err


def test_a_template_may_be_too_large_or_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyError, match="t: a chat template of 1000001 characters, limit 1000000"):
        template_check.check("x" * 1000001, "t")
    monkeypatch.setattr(template_check, "_PROGRAM", "import time; time.sleep(60)  # {memory} {seconds}")
    monkeypatch.setattr(template_check, "SECONDS", 0.2)
    with pytest.raises(PolicyError, match=r"t: compiling takes more than 0\.2 s"):
        template_check.check("x", "t")
    monkeypatch.setattr(template_check, "_PROGRAM", "import os; os.abort()  # {memory} {seconds}")
    monkeypatch.setattr(template_check, "SECONDS", 10)
    with pytest.raises(PolicyError, match="t: compiling takes more time or memory than it may"):
        template_check.check("x", "t")


def test_without_jinja2_there_is_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "find_spec", lambda name: None)
    with pytest.raises(Exception, match=r"t: jinja2 is not installed\. Hint: pip install jinja2"):
        template_check.check("x", "t")


def test_a_compiler_that_gives_no_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "_PROGRAM", "import sys; sys.exit(3)")
    with pytest.raises(InputError, match=r"^t: the chat template does not compile: no reason given$"):
        template_check.check("{{ x }}", "t")
