"""Plugins with heavier or optional needs; the same contract and the same tests as the built-ins."""
