"""Evaluators that need other packages or kinds of models: `lm_eval`, `similarity` and `classification`."""
