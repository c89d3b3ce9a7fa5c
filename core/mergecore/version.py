"""The versions of what others rely on: of mergecore, of the API of its plugins, of its random numbers."""

__version__ = "0.1.0"

API = 1
"""Raised when plugins written for an older mergecore stop working; a plugin may state `MERGECORE_API = 1`."""

MANIFEST = "mergecore-manifest.json"
"""The file of an output that says what it was made from."""

RNG = "mergecore-rng/1"
"""How random numbers follow from a seed and from names; part of what they are drawn from, and of every manifest."""
