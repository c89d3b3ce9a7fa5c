"""The small files beside the weights: config, card, what special tokens are; read `write` first."""
