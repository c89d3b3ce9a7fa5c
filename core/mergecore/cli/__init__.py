"""The command line; read `app` first."""

from mergecore.cli.app import main

__all__ = ["main"]
