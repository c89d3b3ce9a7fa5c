"""What is said of a method: by itself, by its function, by its module; and of other plugins."""

from __future__ import annotations

from functools import partial
from typing import Any

from fixture_types import Cli, WritePlugin
from odd_plugins import HEAD

from mergecore import MergeMethod, Params
from mergecore.plugins.words import first_line, module_of, summary_of


class Nothing(Params):
    """No parameters."""


def silent(group: Any, params: Nothing) -> Any:
    return group.x[0]


def talking(group: Any, params: Nothing) -> Any:
    """Careful: it takes
    the first one.

    And more.
    """
    return group.x[0]


def said(merge: Any, **facts: Any) -> str:
    return summary_of(MergeMethod(name="odd", merge=merge, params=Nothing, **facts))


def test_a_method_speaks_before_its_function_and_that_before_its_module() -> None:
    assert said(talking, summary="what it is") == "what it is"
    assert said(talking) == "Careful: it takes the first one."
    assert said(partial(talking)) == "Careful: it takes the first one."
    module = "What is said of a method: by itself, by its function, by its module; and of other plugins."
    assert said(silent) == said(partial(silent)) == module
    assert first_line(module_of(silent)) == module


CODE = (
    HEAD.replace("def mean(group, params):", "def mean(group, params):\n    '''Mean: the plain one.'''")
    + """
from mergecore import ModelSource

def opened(reference, options):
    '''What the function says.'''

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="plain", merge=mean, params=Weights)

@hookimpl
def mergecore_model_sources():
    yield ModelSource(name="zoo", accepts=opened, open=opened)
"""
)


def test_the_docstring_of_the_function_is_shown_and_no_line_without_words(
    cli: Cli, write_plugin: WritePlugin
) -> None:
    write_plugin("words", f"'''Of the module: all of it.'''\n{CODE}")
    shown = cli("methods", "show", "plain").out
    assert shown.startswith("plain: Mean: the plain one.\n\n  needs      1 or more models;")
    assert "formula" not in shown
    assert "source" not in shown
    listed = cli("plugins", "list").out
    assert "    plain  Mean: the plain one. (words 1.0)\n" in listed
    assert "    zoo  Of the module: all of it. (words 1.0)\n" in listed
    ties = cli("methods", "show", "ties").out
    assert ties.startswith(
        "ties: trim task vectors, elect a sign, average those that agree\n\n  formula    B + "
    )
    assert "\n  source     arXiv:2306.01708\n" in ties
