"""Where the rows of embeddings come from when a vocabulary is chosen, from the rules alone.

Read `rows_of`: one model's matrix in the order of the output's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fuzz.reference.arrays import Array


@dataclass(frozen=True)
class Worded:
    """A model's matrix and the ids of its tokens, those without a row left out."""

    name: str
    matrix: Array
    ids: Mapping[str, int]

    def row(self, token: str) -> Array | None:
        """The row of a token, if it has one."""
        at = self.ids.get(token)
        return None if at is None or at >= len(self.matrix) else self.matrix[at]


def rows_of(
    one: Worded,
    everyone: Sequence[Worded],
    base: Worded | None,
    order: Sequence[str],
    length: int,
    asked: Mapping[str, Mapping[str, Any]],
    others: Mapping[str, Worded],
) -> Array:
    """The rows of `one` for the tokens in `order`, and up to `length` the mean of those.

    everyone: the models that are merged.  asked: what the config says of single tokens.  others: all models by
        the reference that a config uses.
    """
    rows = []
    for token in order:
        said = asked.get(token, {})
        own = None if said.get("force") else one.row(token)
        rows.append(_elsewhere(token, said, everyone, base, others) if own is None else own)
    matrix = np.stack(rows)
    padding = np.tile(matrix.mean(axis=0), (length - len(matrix), 1))
    return np.concatenate([matrix, padding]) if len(padding) else matrix


def _elsewhere(
    token: str,
    said: Mapping[str, Any],
    everyone: Sequence[Worded],
    base: Worded | None,
    others: Mapping[str, Worded],
) -> Array:
    """The row that stands in: what the config says, the only one, the base's, the mean, or zero."""
    if said.get("source") is not None:
        return _asked(token, said["source"], others, everyone[0].matrix.shape[1])
    known = [(one, one.row(token)) for one in everyone]
    rows = [row for _, row in known if row is not None]
    if not rows:
        return np.zeros(everyone[0].matrix.shape[1])
    if len(rows) > 1 and base is not None:
        own = base.row(token)
        if own is not None:
            return own
    return np.asarray(np.mean(rows, axis=0))


def _asked(token: str, source: Any, others: Mapping[str, Worded], width: int) -> Array:
    """The row that a config names."""
    if isinstance(source, str):
        row = others[source].row(token)
    elif source["kind"] == "zero":
        return np.zeros(width)
    elif "token_id" in source:
        row = others[source["model"]].matrix[source["token_id"]]
    else:
        row = others[source["model"]].row(source["token"])
    assert row is not None, f"the case asks for a row of '{token}' that is not there"
    return row
