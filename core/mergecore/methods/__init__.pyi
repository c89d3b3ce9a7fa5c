"""Merge methods as plain functions; made by tests/method_stubs.py."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeVar, overload

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Module

from mergecore import RunOptions

_A = TypeVar("_A", Tensor, npt.NDArray[Any], dict[str, Tensor], dict[str, npt.NDArray[Any]])

class _Method(Protocol):
    """A method of another package."""

    @overload
    def __call__(self, models: Sequence[_A], **arguments: object) -> _A: ...
    @overload
    def __call__(self, models: Sequence[Module], **arguments: object) -> dict[str, Tensor]: ...

def __getattr__(name: str) -> _Method: ...
@overload
def arcee_fusion(
    models: Sequence[_A],
    *,
    base: _A,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """The entries of the other model that matter most."""

@overload
def arcee_fusion(
    models: Sequence[Module],
    *,
    base: Module,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """The entries of the other model that matter most."""

@overload
def average(
    models: Sequence[_A],
    *,
    schedule: Literal["uniform", "ema", "linear", "minus-sqrt"] = "uniform",
    decay: float = 0.5,
    step: float | Sequence[float | None] | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Checkpoints of one run, weighted by a schedule (EMA, WSM)."""

@overload
def average(
    models: Sequence[Module],
    *,
    schedule: Literal["uniform", "ema", "linear", "minus-sqrt"] = "uniform",
    decay: float = 0.5,
    step: float | Sequence[float | None] | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Checkpoints of one run, weighted by a schedule (EMA, WSM)."""

@overload
def breadcrumbs(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = False,
    scale: float = 1.0,
    scope: Literal["tensor", "model"] = "tensor",
    gamma: float | Sequence[float] = 0.01,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Drop the largest and the smallest entries, add the rest."""

@overload
def breadcrumbs(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = False,
    scale: float = 1.0,
    scope: Literal["tensor", "model"] = "tensor",
    gamma: float | Sequence[float] = 0.01,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Drop the largest and the smallest entries, add the rest."""

@overload
def breadcrumbs_ties(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = False,
    scale: float = 1.0,
    scope: Literal["tensor", "model"] = "tensor",
    gamma: float | Sequence[float] = 0.01,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Drop the largest and the smallest entries, then as ties."""

@overload
def breadcrumbs_ties(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = False,
    scale: float = 1.0,
    scope: Literal["tensor", "model"] = "tensor",
    gamma: float | Sequence[float] = 0.01,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Drop the largest and the smallest entries, then as ties."""

@overload
def consensus_ta(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    k: int = 1,
    threshold: float | Sequence[float] = 1.0,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Task arithmetic where enough models agree."""

@overload
def consensus_ta(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    k: int = 1,
    threshold: float | Sequence[float] = 1.0,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Task arithmetic where enough models agree."""

@overload
def consensus_ties(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = True,
    int8_mask: bool = False,
    k: int = 1,
    threshold: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = False,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Ties where enough models agree."""

@overload
def consensus_ties(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = True,
    int8_mask: bool = False,
    k: int = 1,
    threshold: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = False,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Ties where enough models agree."""

@overload
def core_space(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    density: float | Sequence[float] = 1.0,
    normalize: bool | None = None,
    scale: float = 1.0,
    rule: Literal["ties", "dare_ties", "dare_linear"] | Literal["tsv", "iso"] = "ties",
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Merge small matrices between bases that all share."""

@overload
def core_space(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    density: float | Sequence[float] = 1.0,
    normalize: bool | None = None,
    scale: float = 1.0,
    rule: Literal["ties", "dare_ties", "dare_linear"] | Literal["tsv", "iso"] = "ties",
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Merge small matrices between bases that all share."""

@overload
def dare_linear(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = True,
    scale: float = 1.0,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Drop entries at random, rescale, add them up."""

@overload
def dare_linear(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = True,
    scale: float = 1.0,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Drop entries at random, rescale, add them up."""

@overload
def dare_ties(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = True,
    scale: float = 1.0,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Drop entries at random, rescale, then as ties."""

@overload
def dare_ties(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = True,
    scale: float = 1.0,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Drop entries at random, rescale, then as ties."""

@overload
def della(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = True,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = True,
    scale: float = 1.0,
    epsilon: float | Sequence[float] = 0.15,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Drop at random, small entries more often; then as ties."""

@overload
def della(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = True,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = True,
    scale: float = 1.0,
    epsilon: float | Sequence[float] = 0.15,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Drop at random, small entries more often; then as ties."""

@overload
def della_linear(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = True,
    scale: float = 1.0,
    epsilon: float | Sequence[float] = 0.15,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Drop at random, small entries more often; add them up."""

@overload
def della_linear(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = True,
    scale: float = 1.0,
    epsilon: float | Sequence[float] = 0.15,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Drop at random, small entries more often; add them up."""

@overload
def karcher(
    models: Sequence[_A],
    *,
    max_iter: int = 10,
    tol: float = 1e-05,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Mean of any number of models on the sphere."""

@overload
def karcher(
    models: Sequence[Module],
    *,
    max_iter: int = 10,
    tol: float = 1e-05,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Mean of any number of models on the sphere."""

@overload
def knots(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    density: float | Sequence[float] = 1.0,
    normalize: bool | None = None,
    scale: float = 1.0,
    rule: Literal["ties", "dare_ties", "dare_linear"] = "ties",
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Merge in the singular basis that all task vectors share."""

@overload
def knots(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    density: float | Sequence[float] = 1.0,
    normalize: bool | None = None,
    scale: float = 1.0,
    rule: Literal["ties", "dare_ties", "dare_linear"] = "ties",
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Merge in the singular basis that all task vectors share."""

@overload
def linear(
    models: Sequence[_A],
    *,
    weight: float | Sequence[float],
    normalize: bool = True,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Weighted average of the models (model soup)."""

@overload
def linear(
    models: Sequence[Module],
    *,
    weight: float | Sequence[float],
    normalize: bool = True,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Weighted average of the models (model soup)."""

@overload
def model_stock(
    models: Sequence[_A],
    *,
    base: _A,
    filter_wise: bool = False,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Average, drawn to the base as far as the models disagree."""

@overload
def model_stock(
    models: Sequence[Module],
    *,
    base: Module,
    filter_wise: bool = False,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Average, drawn to the base as far as the models disagree."""

@overload
def multislerp(
    models: Sequence[_A],
    *,
    base: _A | None = None,
    weight: float | Sequence[float],
    normalize_weights: bool = True,
    eps: float = 1e-08,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Weighted mean direction and length of any number of models."""

@overload
def multislerp(
    models: Sequence[Module],
    *,
    base: Module | None = None,
    weight: float | Sequence[float],
    normalize_weights: bool = True,
    eps: float = 1e-08,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Weighted mean direction and length of any number of models."""

@overload
def nearswap(
    models: Sequence[_A],
    *,
    base: _A,
    t: float,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Base plus the difference to the other model, clamped."""

@overload
def nearswap(
    models: Sequence[Module],
    *,
    base: Module,
    t: float,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Base plus the difference to the other model, clamped."""

@overload
def nuslerp(
    models: Sequence[_A],
    *,
    base: _A | None = None,
    weight: float | Sequence[float],
    nuslerp_flatten: bool = True,
    nuslerp_row_wise: bool = False,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """The same by weights; whole tensors, rows or columns."""

@overload
def nuslerp(
    models: Sequence[Module],
    *,
    base: Module | None = None,
    weight: float | Sequence[float],
    nuslerp_flatten: bool = True,
    nuslerp_row_wise: bool = False,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """The same by weights; whole tensors, rows or columns."""

@overload
def passthrough(
    models: Sequence[_A],
    *,
    scale: float | Sequence[float | None] | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """The tensors of one model, perhaps scaled; to stack layers."""

@overload
def passthrough(
    models: Sequence[Module],
    *,
    scale: float | Sequence[float | None] | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """The tensors of one model, perhaps scaled; to stack layers."""

@overload
def ram(
    models: Sequence[_A],
    *,
    base: _A,
    epsilon: float = 1e-05,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Changes of one model in full, shared ones averaged."""

@overload
def ram(
    models: Sequence[Module],
    *,
    base: Module,
    epsilon: float = 1e-05,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Changes of one model in full, shared ones averaged."""

@overload
def ramplus_tl(
    models: Sequence[_A],
    *,
    base: _A,
    epsilon: float = 1e-05,
    r: float = 0.1,
    alpha: float = 0.2,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Ram, with what one model alone changes amplified."""

@overload
def ramplus_tl(
    models: Sequence[Module],
    *,
    base: Module,
    epsilon: float = 1e-05,
    r: float = 0.1,
    alpha: float = 0.2,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Ram, with what one model alone changes amplified."""

@overload
def sce(
    models: Sequence[_A],
    *,
    base: _A,
    select_topk: float = 1.0,
    int8_mask: bool = False,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Entries that vary most, weighted by energy, sign elected."""

@overload
def sce(
    models: Sequence[Module],
    *,
    base: Module,
    select_topk: float = 1.0,
    int8_mask: bool = False,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Entries that vary most, weighted by energy, sign elected."""

@overload
def slerp(
    models: Sequence[_A],
    *,
    base: _A,
    t: float | None = None,
    weight: float | Sequence[float | None] | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Point on the arc between two models."""

@overload
def slerp(
    models: Sequence[Module],
    *,
    base: Module,
    t: float | None = None,
    weight: float | Sequence[float | None] | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Point on the arc between two models."""

@overload
def task_arithmetic(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    scale: float = 1.0,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Base plus weighted task vectors."""

@overload
def task_arithmetic(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = False,
    int8_mask: bool = False,
    scale: float = 1.0,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Base plus weighted task vectors."""

@overload
def ties(
    models: Sequence[_A],
    *,
    base: _A,
    weight: float | Sequence[float],
    normalize: bool = True,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = False,
    scale: float = 1.0,
    scope: Literal["tensor", "model"] = "tensor",
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> _A:
    """Trim task vectors, elect a sign, average those that agree."""

@overload
def ties(
    models: Sequence[Module],
    *,
    base: Module,
    weight: float | Sequence[float],
    normalize: bool = True,
    int8_mask: bool = False,
    density: float | Sequence[float] = 1.0,
    rescale: bool | Literal["l1"] = False,
    scale: float = 1.0,
    scope: Literal["tensor", "model"] = "tensor",
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    run_options: RunOptions | None = None,
) -> dict[str, Tensor]:
    """Trim task vectors, elect a sign, average those that agree."""
