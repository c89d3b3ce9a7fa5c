"""For tests of the testing kit: a check that fails with some words, and one property of it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mergecore.testing.findings import Property


def names(properties: Sequence[Property[Any]]) -> set[str]:
    """The names of properties."""
    return {one.name for one in properties}


def breaks(check: Callable[..., None], text: str, *given: Any, **options: Any) -> None:
    """A check fails with that text."""
    with pytest.raises(AssertionError) as caught:
        check(*given, **options)
    assert text in str(caught.value)


def only(properties: Sequence[Property[Any]], name: str) -> set[str]:
    """What to leave out, so that one property alone is checked."""
    assert name in names(properties)
    return names(properties) - {name}
