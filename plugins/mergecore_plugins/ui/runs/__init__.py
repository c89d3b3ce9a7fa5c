"""Command lines that the page carries out, one after the other; read `run`, then `queue`."""
