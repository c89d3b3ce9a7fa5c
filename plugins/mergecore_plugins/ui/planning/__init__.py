"""Plans of what is typed, made in a process of their own that can be ended; read `planner`, then `worker`."""
