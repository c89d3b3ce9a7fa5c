"""The built-in plugins of mergecore: one module each, registered like anybody else's."""
