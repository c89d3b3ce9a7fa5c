"""How to describe a checkpoint: which tensors are layers, embeddings, heads and experts; read `names` first."""

from mergecore_architectures.data_files import from_file
from mergecore_architectures.names import describe
from mergecore_architectures.transformers_models import (
    CannotBuildError,
    Converted,
    MetaModel,
    build,
    silenced,
)

__all__ = ["CannotBuildError", "Converted", "MetaModel", "build", "describe", "from_file", "silenced"]
