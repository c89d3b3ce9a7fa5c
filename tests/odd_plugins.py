"""What several tests of plugins share."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mergecore import MergeMethod, PluginError
from mergecore.plugins.registry import Plugin, Registry

HEAD = """
from mergecore import Executor, MergeMethod, Params, PerModel, hookimpl

class Weights(Params):
    weight: PerModel[float]

def mean(group, params):
    return group.map(lambda block: block.x.mean(0))
"""


def method(name: str, function: str = "mean") -> str:
    """The code of a plugin with one merge method."""
    return f"""{HEAD}
@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="{name}", merge={function}, params=Weights)
"""


def reporter(body: str) -> str:
    """The code of a plugin with one reporter."""
    return f"""
from mergecore import hookimpl

@hookimpl
def mergecore_report(event):
    {body}
"""


def discover(environ: Mapping[str, str] | None = None, disabled: tuple[str, ...] = ()) -> Registry:
    return Registry.discover(disabled, environ or {})


def named(name: str, registry: Registry | None = None) -> Plugin:
    """The only plugin of that name that does not come with mergecore."""
    [found] = [p for p in (registry or discover()).plugins() if p.name == name and not p.built_in]
    return found


def refusal(name: str, registry: Registry | None = None) -> PluginError:
    """The error for wanting the merge method `name`."""
    with pytest.raises(PluginError) as caught:
        (registry or discover()).get(MergeMethod, name)
    return caught.value
