"""How good models are: `evaluators`, which hooks yield, and the `scores` that they give."""
