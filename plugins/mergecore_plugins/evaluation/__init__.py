"""How good models are: evaluators, and `mergecore evaluate`; read `models`, then `evaluating`."""

from __future__ import annotations

MODEL = "the name of a model"
"""Marks a parameter, `Annotated[str, MODEL]`, that names a model: a folder is relative to that of the file."""
