"""From `cfg.yml` to a `MergeConfig`: grammar, parameters, filters, model references; read `grammar` first."""
