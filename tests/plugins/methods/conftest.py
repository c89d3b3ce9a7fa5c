"""Small tensors are not worth a second thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mergecore.compute import one_thread_each


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    with one_thread_each():
        yield
