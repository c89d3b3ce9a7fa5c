"""What is wrong with a model whose numbers are infinite or undefined; read `not_finite`."""

from __future__ import annotations

from mergecore import MergeError


def not_finite(name: str, what: str) -> MergeError:
    """The error E409 for a model, of which `what` is infinite or undefined."""
    hint = "its weights give infinite or undefined numbers; merge it otherwise"
    return MergeError("E409", f"{name}: {what} is not a finite number", hint=hint)
