"""The block: how many elements of a tensor are worked on, written and hashed at once."""

BLOCK = 2**18
"""Elements of a block.  Fixed, so that results and digests never depend on memory or threads."""
