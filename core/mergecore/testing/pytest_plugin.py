"""What pytest has wherever mergecore is installed: fixtures for the tests of plugins, which load nothing unused.

`mergecore_registry`: the plugins that a test may use.  `tiny_models`: makes tiny models in the folder of the test.
The mark `mergecore_plugins(*plugins, builtins=True)` limits the registry of a test to chosen plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mergecore import Registry

MARK = "mergecore_plugins"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    said = "the registry of the test has these plugins alone, and the built-in ones"
    config.addinivalue_line("markers", f"{MARK}(*plugins, builtins=True): {said}")


@pytest.fixture
def mergecore_registry(request: pytest.FixtureRequest) -> Registry:
    """The installed plugins, or those that the mark `mergecore_plugins` of the test chooses."""
    from mergecore import Registry
    from mergecore.testing import registry_of

    mark = request.node.get_closest_marker(MARK)
    return Registry.discover() if mark is None else registry_of(*mark.args, **mark.kwargs)


@pytest.fixture
def tiny_models(tmp_path: Path) -> Callable[..., list[Path]]:
    """A function that writes tiny models to the folder of the test: `tiny_models(3)` are three Llamas.

    Further arguments are those of `mergecore.testing.tiny_model`; each model has a seed of its own.
    """

    def make(count: int = 2, family: str = "llama", **options: object) -> list[Path]:
        from mergecore.testing import tiny_model

        first = len(list(tmp_path.glob(f"{family}-*")))
        return [
            tiny_model(tmp_path / f"{family}-{first + number}", family, first + number, **options)  # type: ignore[arg-type]
            for number in range(count)
        ]

    return make
