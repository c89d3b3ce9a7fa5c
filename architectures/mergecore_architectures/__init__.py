"""How to describe a checkpoint: which tensors are layers, embeddings, heads and experts."""
