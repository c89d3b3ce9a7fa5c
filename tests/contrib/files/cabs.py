"""CABS, arXiv:2503.01874, as a class of mergekit 0.1.5: n of m entries each, none that a model before has."""

import torch
from mergekit.merge_methods.base import (
    BasePolicy,
    GroupMergeMethod,
    InputContract,
    MergeMethodSpec,
    ParameterScope,
    ParameterSpec,
    TensorGroup,
)
from mergekit.merge_methods.registry import register


class Cabs(GroupMergeMethod):
    spec = MergeMethodSpec(
        name="cabs",
        pretty_name="CABS",
        reference_url="https://arxiv.org/abs/2503.01874",
        contract=InputContract(base=BasePolicy.REQUIRED, min_non_base=1),
        parameters=(
            ParameterSpec("weight", float, ParameterScope.NON_BASE, 1.0),
            ParameterSpec("n", int, ParameterScope.SHARED, 2),
            ParameterSpec("m", int, ParameterScope.SHARED, 4),
        ),
    )

    def merge_group(self, group: TensorGroup, /, *, weight, n, m) -> torch.Tensor:
        base = group.base.tensor
        merged = base.clone()
        taken = torch.zeros_like(base, dtype=torch.bool)
        for entry in group.non_base:
            delta = (entry.tensor - base).masked_fill(taken, 0)
            kept = self._kept(delta, n, m) & ~taken
            merged += weight[entry.id] * torch.where(kept, delta, torch.zeros_like(delta))
            taken |= kept
        return merged

    @staticmethod
    def _kept(delta: torch.Tensor, n: int, m: int) -> torch.Tensor:
        flat = delta.reshape(-1)
        pad = -len(flat) % m
        blocks = torch.nn.functional.pad(flat.abs(), (0, pad)).view(-1, m)
        best = blocks.topk(n, dim=1).indices
        mask = torch.zeros_like(blocks, dtype=torch.bool).scatter_(1, best, True)
        return mask.view(-1)[: len(flat)].view(delta.shape)


register(Cabs())
