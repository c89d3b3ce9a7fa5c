"""Merge methods on tensors in memory: run one, and check that it keeps its contract."""
