"""The version of mergecore, and that of the API of its plugins."""

__version__ = "0.1.0"

API = 1
"""Raised when plugins written for an older mergecore stop working; a plugin may state `MERGECORE_API = 1`."""
