"""Averaging while a model is trained, as callbacks of Trainer; read `saved` first.

`saved` averages the checkpoints that Trainer saves, `running` keeps an average in memory; `window` keeps checkpoints
from being deleted, `evaluating` lends a model other weights.  All of it loads torch, and the callbacks transformers.
"""
