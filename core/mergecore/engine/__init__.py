"""From a plan to bytes, step by step through the output; read `run`, then `step`."""
