"""Public names: loaded when they are first used, and how they go away."""
