"""Errors that know where in a config the cause of them is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mergecore import MergecoreError
from mergecore.errors import Place, Problems


@contextmanager
def placed(place: Place | None) -> Iterator[None]:
    """Give an error of the body this place, if it has none."""
    try:
        yield
    except MergecoreError as error:
        for one in error.errors if isinstance(error, Problems) else (error,):
            one.place = one.place or place
        raise
