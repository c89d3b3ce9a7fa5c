"""Adapters: low-rank changes of a model, read onto their base.

Read `adapters` first: it opens `BASE+ADAPTER` as one model.  `config` and `names` say what the files of an adapter
mean, `changes` which tensors of the base they change, `data` how the changed numbers are computed.
"""
