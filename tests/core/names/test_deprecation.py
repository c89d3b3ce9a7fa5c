"""Names that go away still work, and say what to write instead."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from mergecore.names.deprecation import Deprecated, warn_deprecated

PACKAGE = """
from mergecore.names.deprecation import Deprecated
from mergecore.names.on_demand import on_demand

__getattr__, __dir__ = on_demand(
    __name__, {"inner": "new"}, {"old": Deprecated("shop.new", since="0.4", removed_in="0.6")}
)
"""


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose function `old` is called `new` now."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "inner.py").write_text("def new():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("shop", "shop.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)


SAID = r"^shop\.old is deprecated since mergecore 0\.4 and goes away in 0\.6; use shop\.new$"


def test_a_former_name_stands_for_the_new_one_and_warns() -> None:
    import shop  # type: ignore[import-not-found]

    with pytest.warns(DeprecationWarning, match=SAID) as caught:
        found = shop.old
    assert found is shop.new
    assert caught[0].filename == __file__  # the place that has to change
    assert "old" not in dir(shop)


def test_a_name_that_stays_warns_of_nothing() -> None:
    import shop

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shop.new() == 1


def test_an_argument_that_goes_away_is_told_at_the_caller() -> None:
    def merge(*, old: int | None = None) -> None:
        if old is not None:
            warn_deprecated("merge(…, old=…)", Deprecated("new=…", "0.4", "0.6"))

    with pytest.warns(DeprecationWarning, match=r"^merge\(…, old=…\) is deprecated .* use new=…$") as caught:
        merge(old=1)
    assert caught[0].filename == __file__
