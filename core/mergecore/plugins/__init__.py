"""The hooks, and the plugins that implement them: found, loaded, asked by name; read `hookspecs`, then `registry`."""

from mergecore.plugins.registry import WORD_OF, Plugin, Registry

__all__ = ["WORD_OF", "Plugin", "Registry"]
