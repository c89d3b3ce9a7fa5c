"""Merge methods as plain functions, those of other packages too: `from mergecore.methods import ties`.

Each takes tensors of one shape, or state dicts, or modules, and returns one of the same kind; `help(ties)` shows its
parameters.  The numbers are those of `mergecore merge`, bit for bit.
"""

from mergecore.pipeline.functions import for_module as _for_module

__getattr__, __dir__ = _for_module(__name__)
