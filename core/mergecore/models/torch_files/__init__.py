"""Files of `torch.save`, read without unpickling; read `archive` first."""
