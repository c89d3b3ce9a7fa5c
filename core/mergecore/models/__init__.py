"""From a model reference to an open checkpoint and what is known of its tensors; read `opener` first."""
