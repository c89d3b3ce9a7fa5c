"""How to describe a checkpoint: which tensors are layers, embeddings, heads and experts; read `names` first."""

from mergecore_architectures.data_files import from_file
from mergecore_architectures.names import describe

__all__ = ["describe", "from_file"]
