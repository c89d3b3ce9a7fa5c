"""Merge methods on the singular vectors of task vectors; a module for each method, and `parts` for what they share."""
