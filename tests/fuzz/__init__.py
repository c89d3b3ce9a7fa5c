"""A differential fuzzer: random merges against a float64 implementation that shares no code with the product."""
