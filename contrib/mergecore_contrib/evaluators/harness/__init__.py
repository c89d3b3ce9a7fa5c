"""What calls lm-eval: its tasks, its backends, a run, and the scores of its results."""
