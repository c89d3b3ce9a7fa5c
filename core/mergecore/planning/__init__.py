"""From a config and open models to a plan; read `merge`, which is the whole order of events, first."""
