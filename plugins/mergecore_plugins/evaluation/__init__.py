"""How good models are: evaluators, and `mergecore evaluate`; read `models`, then `evaluating`."""
