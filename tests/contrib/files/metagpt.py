"""MetaGPT, arXiv:2406.11385, as a class of mergekit 0.1.4: task vectors weighted by their squared norms."""

from typing import Any, Dict, List, Optional

import torch
from mergekit.architecture import WeightInfo
from mergekit.common import ImmutableMap, ModelReference
from mergekit.graph import Task
from mergekit.merge_methods.base import ConfigParameterDef, MergeMethod, MergeTensorInput
from mergekit.merge_methods.rectify_embed import rectify_embed_sizes


class MetaGptTask(Task[torch.Tensor]):
    gather_tensors: MergeTensorInput
    base_model: ModelReference
    weight_info: WeightInfo
    tensor_parameters: ImmutableMap[ModelReference, ImmutableMap[str, Any]]
    lambda_: float

    def arguments(self) -> Dict[str, Task]:
        return {"tensors": self.gather_tensors}

    def execute(self, tensors: Dict[ModelReference, torch.Tensor], **_kwargs) -> torch.Tensor:
        rectify_embed_sizes(self.weight_info, list(tensors.values()))
        base = tensors[self.base_model]
        deltas = [
            self.tensor_parameters[model]["weight"] * (tensor - base)
            for model, tensor in tensors.items()
            if model != self.base_model
        ]
        squares = [delta.square().sum() for delta in deltas]
        total = sum(squares)
        return base + self.lambda_ * sum(square / total * delta for square, delta in zip(squares, deltas))


class MetaGptMerge(MergeMethod):
    """Task vectors weighted by their squared norms."""

    def name(self) -> str:
        return "metagpt"

    def pretty_name(self) -> Optional[str]:
        return "MetaGPT"

    def parameters(self) -> List[ConfigParameterDef]:
        return [ConfigParameterDef(name="lambda", required=False, default_value=1.0)]

    def tensor_parameters(self) -> List[ConfigParameterDef]:
        return [ConfigParameterDef(name="weight", required=True)]

    def make_task(
        self, *, output_weight, tensors, base_model, parameters, tensor_parameters, **_kwargs
    ) -> Task:
        return MetaGptTask(
            gather_tensors=tensors,
            base_model=base_model,
            weight_info=output_weight,
            tensor_parameters=tensor_parameters,
            lambda_=parameters["lambda"],
        )
