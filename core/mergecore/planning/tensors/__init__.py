"""From slices of models to the steps that make each output tensor; read `steps` first."""
